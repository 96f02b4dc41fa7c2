"""What the commands of two chained products cost; see :mod:`tileflow_chain`."""

from __future__ import annotations

from collections.abc import Callable

from tilewright.formats import format_bits
from tilewright.hw_models.buffer import access_cycles
from tilewright.hw_models.dram import transfer
from tilewright.hw_models.energy import Counters, energy_by_component
from tilewright.hw_models.matrix_unit import MatrixCost, product
from tilewright.hw_models.spec import MachineSpec
from tilewright.hw_models.vector_unit import vector_cycles
from tilewright.sim.lowering.costs import Work
from tilewright.units import bits_to_bytes

__all__ = ["ChainCosts"]

# The pass over S is counted in the published traffic, but not which operation it does: one that every machine has.
PASS_OPERATION = "add"


class ChainCosts:
    """Costs of loads, stores, products and the pass over S; sums are held in the operands' number format.

    ``stationary_port``: the operand that stays in the array does not go through the working buffer's read port (its
    words are counted, but never make a command wait).
    """

    def __init__(self, machine: MachineSpec, number_format: str, *, stationary_port: bool) -> None:
        self.machine = machine
        self.number_format = number_format
        self.stationary_port = stationary_port
        self._known: dict[tuple[object, ...], Work] = {}

    def n_bytes(self, n_elements: int) -> int:
        """Bytes of ``n_elements`` in the buffer."""
        return bits_to_bytes(n_elements * format_bits(self.number_format))

    def load(self, n_runs: int, run_elements: int, *, stride_elements: int = 0) -> Work:
        """From DRAM: ``n_runs`` runs of ``run_elements``, ``stride_elements`` apart (0: they touch)."""
        return self._remember(
            ("load", n_runs, run_elements, stride_elements),
            lambda: self._transfer(n_runs, run_elements, stride_elements, reads=True),
        )

    def store(self, n_elements: int) -> Work:
        """To DRAM, contiguous."""
        return self._remember(("store", n_elements), lambda: self._transfer(1, n_elements, 0, reads=False))

    def multiply(self, m: int, k: int, n: int) -> Work:
        """C[m, n] += A[m, k] B[k, n], where the first of a sum adds to the zeros that the buffer holds."""
        return self._remember(("multiply", m, k, n), lambda: self._multiply(m, k, n))

    def element_wise(self, n_elements: int) -> Work:
        """One operation on each of ``n_elements``, in place."""
        return self._remember(("element-wise", n_elements), lambda: self._element_wise(n_elements))

    def _transfer(self, n_runs: int, run_elements: int, stride_elements: int, *, reads: bool) -> Work:
        run_bytes = self.n_bytes(run_elements)
        stride_bytes = self.n_bytes(stride_elements) or run_bytes
        cost = transfer(self.machine, n_runs=n_runs, run_bytes=run_bytes, stride_bytes=stride_bytes)
        through = {self.machine.working_buffer.name: cost.n_bytes}
        counters = Counters(
            dram_read_bytes=cost.n_bytes if reads else 0,
            dram_write_bytes=0 if reads else cost.n_bytes,
            dram_activations=cost.n_activations,
            buffer_read_bytes={} if reads else through,
            buffer_write_bytes=through if reads else {},
        )
        return Work(cost.latency_cycles, cost.occupancy_bytes, 0, self._energy(counters), counters)

    def _multiply(self, m: int, k: int, n: int) -> Work:
        cost = product(self.machine.matrix, m, k, n, self.number_format)
        reads = cost.read_elements_a + cost.read_elements_b + cost.read_partial_elements + m * n
        beside = self._stationary_elements(cost) if self.stationary_port else 0
        return self._work(
            cost.cycles,
            reads=self.n_bytes(reads),
            writes=self.n_bytes(cost.write_elements),
            beside=self.n_bytes(beside),
            fill_drain=cost.fill_drain_cycles,
            counters=Counters(macs={self.number_format: cost.macs}),
        )

    def _stationary_elements(self, cost: MatrixCost) -> int:
        stays = {"input": cost.read_elements_a, "weight": cost.read_elements_b}
        return stays.get(self.machine.matrix.stationarity, 0)

    def _element_wise(self, n_elements: int) -> Work:
        n_bytes = self.n_bytes(n_elements)
        return self._work(
            vector_cycles(self.machine.vector, ((PASS_OPERATION, n_elements),), reduces=False),
            reads=n_bytes,
            writes=n_bytes,
            counters=Counters(vector_operations={PASS_OPERATION: n_elements}),
        )

    def _work(
        self, cycles: int, *, reads: int, writes: int, counters: Counters, beside: int = 0, fill_drain: int = 0
    ) -> Work:
        """A command lasts at least as long as its bytes take; ``beside`` of the read ones have a port of their own."""
        buffer = self.machine.working_buffer
        cycles = max(cycles, access_cycles(buffer, read_bytes=reads - beside, write_bytes=writes))
        counters += Counters(buffer_read_bytes={buffer.name: reads}, buffer_write_bytes={buffer.name: writes})
        return Work(cycles, 0, fill_drain, self._energy(counters), counters)

    def _energy(self, counters: Counters) -> float:
        return sum(energy_by_component(self.machine, counters, 0).values())

    def _remember(self, key: tuple[object, ...], make: Callable[[], Work]) -> Work:
        work = self._known.get(key)
        if work is None:
            work = self._known[key] = make()
        return work
