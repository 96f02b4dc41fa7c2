"""A whole network over time: the activity of its operators, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tilewright.hw_models.dram import bytes_per_cycle, port_names
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.engine.activity import KINDS, Activity, activity_of
from tilewright.sim.network_result import OperatorRun

__all__ = ["NetworkActivity", "network_activity"]

_SPANS = 4000

FloatArray = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkActivity:
    """A run in spans, each within one operator; an operator has more of them the longer it takes.

    ``starts``: the cycles at which operators begin, and the end; ``edges``: the same of spans (n + 1); ``operator``:
    the number of each span's operator (n). ``busy``: by kind of engine (matrix, vector, load, store), 0 to 1;
    ``read_rate``, ``write_rate``: DRAM bytes a cycle, of at most ``peak_rate`` together; ``held_bytes``: the most that
    the working buffer of one core held, of ``capacity_bytes``. ``n_mean``: operators with too many commands to be
    recorded, which show their means.
    """

    starts: Int64Array = field(hash=False)
    edges: Int64Array = field(hash=False)
    operator: Int64Array = field(hash=False)
    busy: Mapping[str, FloatArray] = field(hash=False)
    read_rate: FloatArray = field(hash=False)
    write_rate: FloatArray = field(hash=False)
    held_bytes: FloatArray = field(hash=False)
    peak_rate: float
    capacity_bytes: int
    buffer: str
    n_mean: int

    def mean(self, values: FloatArray) -> float:
        """The mean of ``values`` (one a span) over the run."""
        return float(np.average(values, weights=np.diff(self.edges)))

    def by_operator(self, values: FloatArray) -> FloatArray:
        """The mean of ``values`` (one a span) over each operator."""
        widths = np.diff(self.edges)
        sums = np.bincount(self.operator, weights=values * widths)
        return sums / np.bincount(self.operator, weights=widths)


def network_activity(runs: Sequence[OperatorRun], machine: MachineSpec, *, n_spans: int = _SPANS) -> NetworkActivity:
    """The activity of a network from the runs of its operators; one that comes again is recorded once.

    ``n_spans``: about how many spans the whole run is cut into; every operator has one at least.
    """
    total = max(1, sum(run.cycles for run in runs))
    known: dict[int, Activity] = {}
    parts: list[Activity] = []
    edges: list[Int64Array] = []
    numbers: list[Int64Array] = []
    at = 0
    for number, run in enumerate(runs):
        n = min(run.cycles, max(1, round(n_spans * run.cycles / total)))
        if id(run) not in known:
            known[id(run)] = activity_of(run.programs(), n, n_cores=machine.n_cores)
        parts.append(known[id(run)])
        edges.append(at + np.round(np.linspace(0, run.cycles, n + 1)).astype(np.int64)[:-1])
        numbers.append(np.full(n, number, dtype=np.int64))
        at += run.cycles
    ends = np.concatenate([*edges, [at]])
    widths = np.diff(ends)
    read, written = (np.concatenate([getattr(part, name) for part in parts]) for name in ("read_bytes", "write_bytes"))
    return NetworkActivity(
        starts=np.cumsum([0, *(run.cycles for run in runs)]),
        edges=ends,
        operator=np.concatenate(numbers),
        busy={kind: np.concatenate([part.busy[kind] for part in parts]) for kind in KINDS},
        read_rate=read / widths,
        write_rate=written / widths,
        held_bytes=np.concatenate([part.held_bytes for part in parts]),
        peak_rate=float(bytes_per_cycle(machine)) * len(port_names(machine)),
        capacity_bytes=machine.working_buffer.capacity_bytes,
        buffer=machine.working_buffer.name,
        n_mean=sum(not part.is_exact for part in parts),
    )
