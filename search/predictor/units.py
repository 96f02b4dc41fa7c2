"""Networks as counts of units: blocks of a search space, or layers; and what the simulator says of each unit.

A unit is timed once on each machine of a family. So a network's time on a machine is a sum over its units, and what ten
measurements tell of a new device is told of units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import ATTENTION_DATAFLOWS, best_mapping
from tilewright.search.pipeline.stages import part_of
from tilewright.sim.jobs import Job, jobs_of, jobs_on
from tilewright.workloads.network import load_network
from tilewright.workloads.rated_formats import with_rated_formats
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.search_spaces import SPACES, space_named

__all__ = ["FAMILY", "N_TRAITS", "Units", "units_of_networks"]

FloatArray = npt.NDArray[np.float64]

#: Machines that come with Tilewright and whose times of units are unlike each other: arrays of several shapes and sizes
#: with much and little bandwidth, engines of microcontrollers, processors.
FAMILY = (
    "edge-16x16",
    "edge-16x16 with matrix.rows=8, matrix.columns=8",
    "edge-16x16 with matrix.rows=64, matrix.columns=64",
    "edge-16x16 with dram.bandwidth_gb_per_s=4",
    "edge-16x16 with buffers.l1.capacity_kib=128",
    "flat-edge",
    "dpu-b4096-zcu102",
    "dpu-b4096-zcu104",
    "nvdla-2048",
    "nvdla-512",
    "nvdla-small",
    "rk3588-npu-core",
    "rk3566-npu",
    "coral-edgetpu-usb",
    "ethos-u55-256",
    "gap9-ne16",
    "raspberry-pi-5",
    "apple-m4",
)
N_TRAITS = 7  # of a unit: multiply-adds dense, in groups, depthwise; bytes of maps, of weights; operators, products


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Units:
    """``counts`` (networks x units), ``traits`` (units x :data:`N_TRAITS`); :meth:`times` has those of machines.

    ``needed``: the counts once more, without the units that a network's result does not depend on.
    """

    networks: tuple[str, ...]
    names: tuple[str, ...]
    counts: FloatArray
    needed: FloatArray
    traits: FloatArray
    streams: tuple[OperatorStream, ...]

    @property
    def readings(self) -> tuple[FloatArray, ...]:
        """The counts that a device may pay for: all that is written, and where that is less, what is needed."""
        return (self.counts,) if np.array_equal(self.counts, self.needed) else (self.counts, self.needed)

    def times(
        self, family: Sequence[str] = FAMILY, *, cache: MappingCache | None = None, progress: Progress | None = None
    ) -> tuple[tuple[str, ...], FloatArray]:
        """Machines of ``family`` that can run all units, and seconds of each unit on each (machines x units).

        Raises InputError where none can.
        """
        kept = MappingCache() if cache is None else cache
        names, rows = [], []
        for number, name in enumerate(family):
            if progress is not None:
                progress(number, len(family), name)
            machine = load_machine(name)
            try:
                rows.append([_seconds(stream, machine, kept) for stream in self.streams])
            except InputError as fault:
                last = fault
                continue
            names.append(name)
        if not names:
            raise InputError(f"machines: none of {', '.join(family)} can run all layers of the networks; {last}")
        return tuple(names), np.array(rows)


def _seconds(stream: OperatorStream, machine: MachineSpec, cache: MappingCache) -> float:
    """One unit alone, each of its layers at its best mapping."""
    rated, _ = with_rated_formats(stream, tuple(machine.matrix.multiplies_per_pe_per_cycle), keep=[])
    cycles = sum(
        best_mapping(job, machine, "latency", ATTENTION_DATAFLOWS, cache).alone.cycles
        for job in jobs_on(rated, machine)
    )
    return machine.seconds(cycles)


def units_of_networks(networks: Sequence[str]) -> Units:
    """The units of ``networks``: ``SPACE/DIGITS`` of a search space, or what ``tilewright simulate`` takes.

    Raises InputError with the network that cannot be read.
    """
    streams: dict[str, Callable[[], OperatorStream]] = {}
    written, needed = zip(*(_counted(name, streams) for name in networks), strict=True)
    names = tuple(sorted(streams))
    made = tuple(streams[name]() for name in names)
    return Units(
        networks=tuple(networks),
        names=names,
        counts=_matrix(written, names),
        needed=_matrix(needed, names),
        traits=np.array([_traits(stream) for stream in made]).reshape(len(names), N_TRAITS),
        streams=made,
    )


def _matrix(counters: Sequence[Counter[str]], names: Sequence[str]) -> FloatArray:
    at = {name: number for number, name in enumerate(names)}
    counts = np.zeros((len(counters), len(names)))
    for row, counter in enumerate(counters):
        for name, n in counter.items():
            counts[row, at[name]] = n
    return counts


def _counted(name: str, streams: dict[str, Callable[[], OperatorStream]]) -> tuple[Counter[str], Counter[str]]:
    """Units of a network as it is written, and those that its result needs."""
    space, _, digits = name.partition("/")
    if space in SPACES and digits:
        found = []
        for only_needed in (False, True):
            blocks = SPACES[space].network(digits, only_needed=only_needed)
            for block in blocks:
                streams.setdefault(f"{space} {block.name}", block.stream)
            found.append(Counter({f"{space} {block.name}": n for block, n in blocks.items()}))
        return found[0], found[1]
    if digits.isdecimal():
        space_named(space)
    stream = load_network(name)
    layers: Counter[str] = Counter()
    for job in jobs_of(stream):
        key = f"layer {hash_of(stream, job)}"
        streams.setdefault(key, _part(stream, job))
        layers[key] += 1
    return layers, layers


def _part(stream: OperatorStream, job: Job) -> Callable[[], OperatorStream]:
    return lambda: part_of(stream, [job])


def hash_of(stream: OperatorStream, job: Job) -> str:
    """What equal layers share, as text."""
    return repr([stream.signature(operator) for operator in job.operators])


def _traits(stream: OperatorStream) -> list[float]:
    dense = grouped = depthwise = products = 0
    for operator in stream.operators:
        if operator.kind != "conv":
            dense += operator.macs
            products += operator.macs > 0
            continue
        products += 1
        groups = operator.count("groups")
        if groups == 1:
            dense += operator.macs
        elif groups == operator.count("in_channels"):
            depthwise += operator.macs
        else:
            grouped += operator.macs
    maps, weights = stream.activation_bytes, stream.weight_bytes
    return [dense, grouped, depthwise, maps, weights, len(stream.operators), products]
