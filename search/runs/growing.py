"""One attention layer behind a growing cache: what it takes at every number of keys.

Up to :data:`EACH` numbers of keys each has its own best mapping. Of more, mappings are searched at the largest and at
its halves, and each is run, exactly, at all numbers of keys from the next half on. What was run is kept with the
mappings.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.hw_models.energy import Counters
from tilewright.hw_models.spec import MachineSpec
from tilewright.search import network
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import Mapped, weights_ahead
from tilewright.search.workload import pieces
from tilewright.sim.engine.run import simulate
from tilewright.sim.lowering.costs import TileCosts
from tilewright.sim.lowering.evaluation import Ahead, build_phase, needed_bytes, phase_tiling
from tilewright.sim.lowering.mapped_work import mapped_work
from tilewright.sim.lowering.mapping import plain_mapping
from tilewright.workloads.attention import AttentionLayer

__all__ = ["EACH", "Flat", "GrowingAttention", "Table", "flat_run"]

Ints = npt.NDArray[np.int64]
#: A run as numbers by name, which add up over runs.
Flat = dict[str, int]
#: Plain, and with what is brought for the job behind (None: it cannot be).
Pair = tuple[Flat, Flat | None]

#: Up to so many different numbers of keys each has its own best mapping.
EACH = 64


def flat_run(cycles: int, matrix: int, vector: int, counters: Counters) -> Flat:
    """A run as numbers by name."""
    found = {"cycles": cycles, "matrix": matrix, "vector": vector}
    for name in ("macs", "matrix_elementwise", "vector_operations", "buffer_read_bytes", "buffer_write_bytes"):
        found |= {f"{name}.{key}": n for key, n in getattr(counters, name).items()}
    for name in ("dram_read_bytes", "dram_write_bytes", "dram_activations", "weight_memory_bytes"):
        found[name] = getattr(counters, name)
    return found


class Table(NamedTuple):
    """Runs without and with the first weights of the job behind (the same where these cannot be brought: ``can``)."""

    plain: Mapping[str, Ints]
    bring: Mapping[str, Ints]
    can: npt.NDArray[np.bool_]


@dataclass(slots=True, kw_only=True)
class GrowingAttention:
    """The layer ``at`` (from a number of keys) on a machine; ``search``: its best mapping at one, near another one.

    ``following``: the job behind it, whose first weights it may bring (None: none).
    """

    at: Callable[[int], AttentionLayer]
    machine: MachineSpec
    search: Callable[[AttentionLayer, Sequence[Mapped]], Mapped]
    tell: Callable[[int, int, str], None]
    cache: MappingCache
    choices: tuple[Any, ...]
    following: tuple[Mapped, TileCosts] | None = None
    _best_at: dict[int, Mapped] = field(default_factory=dict)

    def table(self, keys: Ints) -> Table:
        """What it takes at each of ``keys``."""
        distinct, inverse = np.unique(keys, return_inverse=True)
        numbers = [int(n) for n in distinct]
        found = self._kept(numbers)
        names = dict.fromkeys(name for pair in found for one in pair if one is not None for name in one)

        def column(at: int) -> dict[str, Ints]:
            chosen = [pair[at] or pair[0] for pair in found]
            return {name: np.array([one.get(name, 0) for one in chosen], dtype=np.int64)[inverse] for name in names}

        return Table(column(0), column(1), np.array([pair[1] is not None for pair in found])[inverse])

    def _kept(self, numbers: Sequence[int]) -> list[Pair]:
        """The runs at ``numbers``, from the cache where they are in it."""
        after = None if self.following is None else (self.following[0].layer, self.following[0].tiling)
        key = self.cache.key(
            "growing", _own_digest(), self.at(numbers[-1]), self.machine, self.choices, after, list(numbers)
        )
        kept = self.cache.get(key)
        if kept is not None and len(kept.get("runs", ())) == len(numbers):
            return [(plain, bring) for plain, bring in kept["runs"]]
        found: list[Pair] = []
        for mapped, members in self._groups(numbers):
            for n in members:
                self.tell(len(found), len(numbers), f"attention over {n:,} keys")
                pair = self._run(mapped, n) or self._run(self._best(n), n)
                assert pair is not None
                found.append(pair)
        self.cache.put(key, {"runs": found})
        return found

    # --- which mapping ------------------------------------------------------------------------------------------

    def _best(self, n_keys: int, near: Mapped | None = None) -> Mapped:
        if n_keys not in self._best_at:
            fitted = None if near is None else self._fitted(near, n_keys)
            self._best_at[n_keys] = self.search(self.at(n_keys), [] if fitted is None else [fitted])
        return self._best_at[n_keys]

    def _groups(self, keys: Sequence[int]) -> Iterator[tuple[Mapped, list[int]]]:
        """Mappings with the numbers of keys that they are run at, in order."""
        if len(keys) <= EACH:
            near = None
            for n in keys:
                near = self._best(n, near)
                yield near, [n]
            return
        points = [keys[-1]]
        while points[0] // 2 >= keys[0]:
            points.insert(0, max(n for n in keys if n <= points[0] // 2))
        for below, above in zip([0, *points], points, strict=False):
            self.tell(0, len(keys), f"mapping for {above:,} keys")
            yield self._best(above), [n for n in keys if below < n <= above]

    def _fitted(self, mapped: Mapped, n_keys: int) -> Mapped | None:
        """``mapped`` for another number of keys; None where it is none for that."""
        layer, flow = self.at(n_keys), mapped.dataflow
        cut = next((one for one in pieces(layer, self.machine, flow) if _cut_alike(one, mapped.layer)), None)
        if cut is None or not flow.can_take(cut):
            return None
        assert isinstance(cut, AttentionLayer)
        tiling = dict(mapped.tiling)
        if "key" in tiling:
            tiling["key"] = min(tiling["key"], cut.key_len)
        try:
            plain, tiles = plain_mapping(flow, cut, tiling)
            costs = flow.costs(plain, self.machine)
            for phase in flow.phases:
                if not phase.legal(plain, phase_tiling(phase, tiles)):
                    return None
                needed_bytes(phase, costs, phase_tiling(phase, tiles))
        except InputError:
            return None
        return replace(mapped, layer=cut, tiling=tiling)

    # --- runs ---------------------------------------------------------------------------------------------------

    def _run(self, mapped: Mapped, n_keys: int) -> Pair | None:
        """One number of keys; None where the mapping is none for it."""
        own = mapped if self._best_at.get(n_keys) is mapped else self._fitted(mapped, n_keys)
        if own is None:
            return None
        layer, tiling = plain_mapping(own.dataflow, own.layer, own.tiling)
        costs = own.dataflow.costs(layer, self.machine)
        plain, peak = self._ran(own, costs, tiling, None)
        if self.following is None:
            return plain, None
        after, after_costs = self.following
        ahead = weights_ahead(own, peak, costs, after, after_costs, self.machine)
        return plain, None if ahead is None else self._ran(own, costs, tiling, ahead)[0]

    def _ran(self, own: Mapped, costs: TileCosts, tiling: dict[str, int], ahead: Ahead | None) -> tuple[Flat, int]:
        phases = own.dataflow.phases
        programs = [
            build_phase(phase, costs, phase_tiling(phase, tiling), ahead=ahead if phase is phases[-1] else None)
            for phase in phases
        ]
        work = mapped_work(programs)
        cycles = sum(simulate(program).cycles for program in programs)
        return flat_run(cycles, work.matrix_cycles, work.vector_cycles, work.counters), work.peak_buffer_bytes


@lru_cache(maxsize=1)
def _own_digest() -> str:
    """A hash of the code that keeps runs, beside that of all mappings."""
    text = b"".join(Path(str(module.__file__)).read_bytes() for module in (network, sys.modules[__name__]))
    return hashlib.sha256(text).hexdigest()


def _cut_alike(cut: object, other: object) -> bool:
    if not isinstance(cut, AttentionLayer) or not isinstance(other, AttentionLayer):
        return False
    names = ("batch", "kv_heads", "query_len", "stripes", "key_parts")
    return all(getattr(cut, name) == getattr(other, name) for name in names)
