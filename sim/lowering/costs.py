"""What one tile costs on a machine: cycles, bytes, energy, counters; each computed once.

What costs take for granted (:data:`ASSUMPTIONS`) is listed beside every result; what a kind of operator adds to that
stands with its own costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, NamedTuple

from tilewright.hw_models.block_steps import ConvShape
from tilewright.hw_models.buffer import access_cycles
from tilewright.hw_models.dram import bytes_per_cycle, transfer
from tilewright.hw_models.energy import Counters, energy_by_component
from tilewright.hw_models.links import hop_cycles, of_each_core
from tilewright.hw_models.matrix_unit import WHOLE, product
from tilewright.hw_models.primitives import counted_as
from tilewright.hw_models.spec import MachineSpec, Operand, WeightMemorySpec
from tilewright.hw_models.vector_unit import vector_cycles
from tilewright.sim.lowering.levels import DRAM_CHANNEL, Level, channels_of, level_called, link_channel, store_channel
from tilewright.units import bits_to_bytes, ceil_div
from tilewright.workloads.homes import DRAM, Place
from tilewright.workloads.vector_work import UnitValues

__all__ = ["ASSUMPTIONS", "TileCosts", "Work"]

ASSUMPTIONS = (
    "a matrix or vector command lasts at least as long as its bytes need through the working buffer",
    "buffer and matrix-unit energy are counted per byte and per multiply-add, idle power per cycle where the "
    "machine gives it",
)


class Work(NamedTuple):
    """The cost of one command. For a transfer ``cycles`` is the latency and ``n_bytes`` the occupancy of ``channel``
    (:func:`tilewright.sim.lowering.levels.channels_of`).
    """

    cycles: int
    n_bytes: int
    fill_drain_cycles: int
    energy_pj: float
    counters: Counters
    channel: int = DRAM_CHANNEL


class TileCosts:
    """Costs that any lowering needs, for one operator (``layer``) on one machine, each remembered by shape."""

    def __init__(self, layer: Any, machine: MachineSpec) -> None:
        self.layer = layer
        self.machine = machine
        self.rate: Fraction = bytes_per_cycle(machine)
        self.store_channel = store_channel(machine)
        self.working = machine.buffers[0]
        self._known: dict[tuple[object, ...], Work] = {}
        self._of_machine = _works_on(machine)

    @property
    def dma_engines(self) -> int | None:
        """Transfers of a core's own queues that are under way at once; None for one of each."""
        n_queues = 2 + (self.machine.weights.memory is not None)
        n_engines = self.machine.dma.engines
        return None if n_engines is None or n_engines >= n_queues else n_engines

    def held_bytes(self, buffer: Place) -> int:
        """What a buffer holds while the layer runs besides its tiles (a plan for the network says so)."""
        return 0

    # -- matrix work -----------------------------------------------------------------------------------

    def product(
        self,
        m: int,
        k: int,
        n: int,
        *,
        number_format: str,
        a_bits: int | Fraction,
        b_bits: int | Fraction,
        out_bits: int | Fraction,
        partial_bits: int,
        add_to: bool,
        conv: ConvShape | None = None,
        speed: Fraction = WHOLE,
        a_is: Operand = "inputs",
        primitive: str = "",
    ) -> Work:
        """C (m, n) = or += A (m, k) B (k, n), operands read from and results written to the working buffer.

        ``conv``: the convolution that it is a tile of. ``speed``: how many times as fast it goes for zeros in B.
        ``a_is``: what A is in a working buffer of parts. ``primitive``: what B needs instead of multiplications.
        """
        unit = self.machine.matrix
        cost = product(unit, m, k, n, number_format, conv, speed, primitive)
        partial = partial_bits
        of_a, of_b = cost.read_elements_a * a_bits, cost.read_elements_b * b_bits
        of_sums = cost.read_partial_elements * partial + (m * n * out_bits if add_to else 0)
        reads = of_a + of_b + of_sums
        writes = (cost.write_elements - m * n) * partial + m * n * out_bits
        cycles = cost.cycles
        if self.working.parts:
            cycles = max(cycles, self._part_cycles(((a_is, of_a), ("weights", of_b), ("sums", of_sums)), writes))
        return self._work(
            cycles,
            reads=bits_to_bytes(reads),
            writes=bits_to_bytes(writes),
            fill_drain=cost.fill_drain_cycles,
            counters=Counters(macs={counted_as(unit, number_format, primitive): cost.macs}),
        )

    def _part_cycles(self, reads: Sequence[tuple[Operand, int | Fraction]], writes_bits: int | Fraction) -> int:
        """Cycles that bits read of each operand, and sums written, take through the ports of their parts."""
        cycles = 0
        for part in self.working.parts:
            read = bits_to_bytes(sum(bits for operand, bits in reads if operand in part.holds))
            written = bits_to_bytes(writes_bits) if "sums" in part.holds else 0
            cycles = max(cycles, access_cycles(part, read_bytes=read, write_bytes=written))
        return cycles

    # -- vector work -----------------------------------------------------------------------------------

    def vector(
        self,
        operations: Sequence[tuple[str, int]],
        *,
        reads_bits: int | Fraction,
        writes_bits: int | Fraction,
        reduces: bool = False,
        values: UnitValues | None = None,
    ) -> Work:
        """Element-wise and reduction work: (kind, elements) pairs, with the bits through the buffer.

        ``values``: what a unit counts of it, where each value passes once.
        """

        def make() -> Work:
            done: dict[str, int] = {}
            for kind, n_elements in operations:
                done[kind] = done.get(kind, 0) + n_elements
            return self._work(
                vector_cycles(self.machine.vector, operations, reduces=reduces, values=values),
                reads=bits_to_bytes(reads_bits),
                writes=bits_to_bytes(writes_bits),
                counters=Counters(vector_operations=done),
            )

        return self._remember_of_machine(("vector", *operations, reads_bits, writes_bits, reduces, values), make)

    # -- transfers -------------------------------------------------------------------------------------

    def load(
        self, n_runs: int, run_elements: int, bits: int | Fraction, *, stride_elements: int = 0, home: Place = DRAM
    ) -> Work:
        """Bring ``n_runs`` contiguous runs of elements from their ``home`` into the working buffer."""
        return self._transfer("load", n_runs, run_elements, bits, stride_elements, home)

    def store(
        self, n_runs: int, run_elements: int, bits: int | Fraction, *, stride_elements: int = 0, home: Place = DRAM
    ) -> Work:
        """Write ``n_runs`` contiguous runs of elements from the working buffer to their ``home``."""
        return self._transfer("store", n_runs, run_elements, bits, stride_elements, home)

    def fetch(
        self, to: Place, n_runs: int, run_elements: int, bits: int | Fraction, *, stride_elements: int = 0
    ) -> Work:
        """Bring ``n_runs`` contiguous runs of elements from the DRAM into the level ``to``."""
        return self._transfer("fetch", n_runs, run_elements, bits, stride_elements, to)

    def fills(self, level: Level) -> bool:
        """Whether what is fetched into ``level`` is written there by commands of their own: where its write port gives
        less than the DRAM, or results go there, too. Else a fetch writes as it reads, and the DRAM is the bottleneck.
        """
        rate = channels_of(self.machine)[level.write_channel].bytes_per_cycle
        if not level.is_shared:
            rate = rate * min(self.machine.n_cores, self.layer.n_groups) / self.machine.n_cores
        homes = getattr(self.layer, "homes", None)
        return rate < self.rate or (homes is not None and homes.out == level.name)

    def fill(self, to: Place, fetched: Work) -> Work:
        """Writing what was ``fetched`` into the level ``to``; the energy of it was counted with the fetch."""
        n_bytes = fetched.counters.buffer_write_bytes[to]
        channel = level_called(self.machine, to).write_channel
        return self._remember(("fill", to, n_bytes), lambda: Work(0, n_bytes, 0, 0.0, Counters(), channel))

    def bring(
        self, n_runs: int, run_elements: int, bits: int | Fraction, *, stride_elements: int = 0, home: Place = DRAM
    ) -> Work:
        """As :meth:`load`, for several cores: to one of them, from which :meth:`send` goes to all."""
        work = self.load(n_runs, run_elements, bits, stride_elements=stride_elements, home=home)
        return self._remember(
            ("bring", n_runs, run_elements, bits, stride_elements, home), lambda: self._unwritten(work)
        )

    def _unwritten(self, work: Work) -> Work:
        """``work`` without what is written to the working buffer."""
        written = {name: n for name, n in work.counters.buffer_write_bytes.items() if name != self.working.name}
        counters = replace(work.counters, buffer_write_bytes=written)
        return work._replace(energy_pj=self._energy(counters), counters=counters)

    def send(self, n_elements: int, bits: int | Fraction, n_cores: int) -> Work:
        """A multicast over the link into the working buffers of ``n_cores``: counted once, or for each of them."""

        def make() -> Work:
            machine, n_bytes = self.machine, bits_to_bytes(n_elements * bits)
            assert machine.links is not None
            n_written = n_bytes * (1 if of_each_core(machine.links) else n_cores)
            counters = Counters(buffer_write_bytes={self.working.name: n_written})
            return Work(hop_cycles(machine), n_bytes, 0, self._energy(counters), counters, link_channel(machine))

        return self._remember(("send", n_elements, bits, n_cores), make)

    def _transfer(
        self, way: str, n_runs: int, run_elements: int, bits: int | Fraction, stride_elements: int, home: Place
    ) -> Work:
        def make() -> Work:
            run_bytes = bits_to_bytes(run_elements * bits)
            stride = bits_to_bytes(stride_elements * bits) if stride_elements else run_bytes
            if home and way != "fetch":
                return self._of_level(way, level_called(self.machine, home), n_runs * run_bytes)
            return self._of_dram(way, n_runs, run_bytes, stride, home)

        return self._remember_of_machine((way, n_runs, run_elements, bits, stride_elements, home), make)

    def _of_dram(self, way: str, n_runs: int, run_bytes: int, stride_bytes: int, to: Place) -> Work:
        cost = transfer(self.machine, n_runs=n_runs, run_bytes=run_bytes, stride_bytes=stride_bytes)
        n_bytes = cost.n_bytes
        # On its way a byte is written to and read from every buffer level farther out.
        nearest = level_called(self.machine, to).number if to else 0
        near = {self.machine.buffers[nearest].name: n_bytes}
        far = {buffer.name: n_bytes for buffer in self.machine.buffers[nearest + 1 :]}
        is_read = way != "store"
        counters = Counters(
            dram_read_bytes=n_bytes if is_read else 0,
            dram_write_bytes=0 if is_read else n_bytes,
            dram_activations=cost.n_activations,
            buffer_read_bytes=far if is_read else far | near,
            buffer_write_bytes=far | near if is_read else far,
        )
        channel = DRAM_CHANNEL if is_read else self.store_channel
        return Work(cost.latency_cycles, cost.occupancy_bytes, 0, self._energy(counters), counters, channel)

    def _of_level(self, way: str, level: Level, n_bytes: int) -> Work:
        """Between a level on chip and the working buffer, through the levels between; or within the working buffer."""
        memory = self.machine.weights.memory
        if memory is not None and level.name == memory.name:
            return self._of_weight_memory(memory, level, n_bytes)
        on_the_way = {buffer.name: n_bytes for buffer in self.machine.buffers[1 : level.number]}
        far, near = {level.name: n_bytes}, {self.working.name: n_bytes}
        is_read = way == "load"
        counters = Counters(
            buffer_read_bytes=on_the_way | (far if is_read else near),
            buffer_write_bytes=on_the_way | (near if is_read else far),
        )
        channel = level.read_channel if is_read else level.write_channel
        return Work(level.latency_cycles, n_bytes, 0, self._energy(counters), counters, channel)

    def _of_weight_memory(self, memory: WeightMemorySpec, level: Level, n_bytes: int) -> Work:
        """Weights from their own memory beside the DRAM, in whole bursts, through all levels on the way."""
        n_bytes = ceil_div(n_bytes, memory.burst_bytes) * memory.burst_bytes
        far = {buffer.name: n_bytes for buffer in self.machine.buffers[1:]}
        counters = Counters(
            weight_memory_bytes=n_bytes,
            buffer_read_bytes=far,
            buffer_write_bytes=far | {self.working.name: n_bytes},
        )
        return Work(level.latency_cycles, n_bytes, 0, self._energy(counters), counters, level.read_channel)

    # -- shared ----------------------------------------------------------------------------------------

    def _work(self, cycles: int, *, reads: int, writes: int, counters: Counters, fill_drain: int = 0) -> Work:
        buffer = self.working
        cycles = max(cycles, access_cycles(buffer, read_bytes=reads, write_bytes=writes))
        through = Counters(buffer_read_bytes={buffer.name: reads}, buffer_write_bytes={buffer.name: writes})
        counters = counters + through
        return Work(max(1, cycles), 0, fill_drain, self._energy(counters), counters)

    def _energy(self, counters: Counters) -> float:
        return sum(energy_by_component(self.machine, counters, 0).values())

    def _remember(self, key: tuple[object, ...], make: Callable[[], Work]) -> Work:
        work = self._known.get(key)
        if work is None:
            work = self._known[key] = make()
        return work

    def _remember_of_machine(
        self, key: tuple[object, ...], make: Callable[[], Work], more: tuple[object, ...] = ()
    ) -> Work:
        """As :meth:`_remember`, of a work that the key and ``more`` tell on this machine, whatever the layer."""
        known = self._known.get(key)
        if known is not None:
            return known
        whole = (*key, *more)
        work = self._of_machine.get(whole) or make()
        self._of_machine[whole] = self._known[key] = work
        return work


MOST_WORKS = 30_000
MOST_MACHINES = 32  # often one is asked again and again, so are others that it is held against, and it at other paces
_works: list[tuple[MachineSpec, dict[tuple[object, ...], Work]]] = []


def _works_on(machine: MachineSpec) -> dict[tuple[object, ...], Work]:
    """What works cost on a machine as an object, as far as it has been asked; forgotten where it becomes much."""
    for at, (known, works) in enumerate(_works):
        if known is machine:
            if len(works) > MOST_WORKS:
                works.clear()
            _works.append(_works.pop(at))
            return works
    if len(_works) >= MOST_MACHINES:
        _works.pop(0)
    _works.append((machine, {}))
    return _works[-1][1]
