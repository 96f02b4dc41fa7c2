"""What one tile costs on a machine: cycles, bytes, energy, counters; each computed once.

What costs take for granted (:data:`ASSUMPTIONS`) is listed beside every result; what a kind of operator adds to that
stands with its own costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from tilewright.hw_models.block_steps import ConvShape
from tilewright.hw_models.buffer import access_cycles
from tilewright.hw_models.dram import bytes_per_cycle, transfer
from tilewright.hw_models.energy import Counters, energy_by_component
from tilewright.hw_models.matrix_unit import product
from tilewright.hw_models.spec import MachineSpec
from tilewright.hw_models.vector_unit import vector_cycles
from tilewright.units import bits_to_bytes

__all__ = ["ASSUMPTIONS", "TileCosts", "Work"]

ASSUMPTIONS = (
    "a matrix or vector command lasts at least as long as its bytes need through the working buffer",
    "buffer and matrix-unit energy are counted per byte and per multiply-add, idle power per cycle where the "
    "machine gives it",
)


class Work(NamedTuple):
    """The cost of one command. For a transfer ``cycles`` is the latency and ``n_bytes`` the occupancy."""

    cycles: int
    n_bytes: int
    fill_drain_cycles: int
    energy_pj: float
    counters: Counters


class TileCosts:
    """Costs that any lowering needs, for one operator (``layer``) on one machine, each remembered by shape."""

    def __init__(self, layer: Any, machine: MachineSpec) -> None:
        self.layer = layer
        self.machine = machine
        self.rate: Fraction = bytes_per_cycle(machine)
        self.working = machine.buffers[0]
        self._known: dict[tuple[object, ...], Work] = {}

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
    ) -> Work:
        """C (m, n) = or += A (m, k) B (k, n), operands read from and results written to the working buffer.

        ``conv``: the convolution that it is a tile of.
        """
        unit = self.machine.matrix
        cost = product(unit, m, k, n, number_format, conv)
        partial = partial_bits
        reads = cost.read_elements_a * a_bits + cost.read_elements_b * b_bits
        reads += cost.read_partial_elements * partial + (m * n * out_bits if add_to else 0)
        writes = (cost.write_elements - m * n) * partial + m * n * out_bits
        return self._work(
            cost.cycles,
            reads=bits_to_bytes(reads),
            writes=bits_to_bytes(writes),
            fill_drain=cost.fill_drain_cycles,
            counters=Counters(macs={number_format: cost.macs}),
        )

    # -- vector work -----------------------------------------------------------------------------------

    def vector(
        self,
        operations: Sequence[tuple[str, int]],
        *,
        reads_bits: int | Fraction,
        writes_bits: int | Fraction,
        reduces: bool = False,
    ) -> Work:
        """Element-wise and reduction work: (kind, elements) pairs, with the bits through the buffer."""

        def make() -> Work:
            done: dict[str, int] = {}
            for kind, n_elements in operations:
                done[kind] = done.get(kind, 0) + n_elements
            return self._work(
                vector_cycles(self.machine.vector, operations, reduces=reduces),
                reads=bits_to_bytes(reads_bits),
                writes=bits_to_bytes(writes_bits),
                counters=Counters(vector_operations=done),
            )

        return self._remember(("vector", *operations, reads_bits, writes_bits, reduces), make)

    # -- transfers -------------------------------------------------------------------------------------

    def load(self, n_runs: int, run_elements: int, bits: int | Fraction, *, stride_elements: int = 0) -> Work:
        """Bring ``n_runs`` contiguous runs of elements from DRAM into the working buffer."""
        return self._transfer("load", n_runs, run_elements, bits, stride_elements)

    def store(self, n_runs: int, run_elements: int, bits: int | Fraction, *, stride_elements: int = 0) -> Work:
        """Write ``n_runs`` contiguous runs of elements from the working buffer to DRAM."""
        return self._transfer("store", n_runs, run_elements, bits, stride_elements)

    def _transfer(self, way: str, n_runs: int, run_elements: int, bits: int | Fraction, stride_elements: int) -> Work:
        def make() -> Work:
            run_bytes = bits_to_bytes(run_elements * bits)
            stride = bits_to_bytes(stride_elements * bits) if stride_elements else run_bytes
            cost = transfer(self.machine, n_runs=n_runs, run_bytes=run_bytes, stride_bytes=stride)
            n_bytes = cost.n_bytes
            # On its way a byte is written to and read from every buffer level farther out.
            far = {buffer.name: n_bytes for buffer in self.machine.buffers[1:]}
            near = {self.working.name: n_bytes}
            counters = Counters(
                dram_read_bytes=n_bytes if way == "load" else 0,
                dram_write_bytes=n_bytes if way == "store" else 0,
                dram_activations=cost.n_activations,
                buffer_read_bytes=far if way == "load" else far | near,
                buffer_write_bytes=far | near if way == "load" else far,
            )
            return Work(cost.latency_cycles, cost.occupancy_bytes, 0, self._energy(counters), counters)

        return self._remember((way, n_runs, run_elements, bits, stride_elements), make)

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
