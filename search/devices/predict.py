"""What a machine is predicted to take for what a table's row names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.energy import Counters, energy_by_component
from tilewright.hw_models.overheads import host_cycles, overhead_cycles
from tilewright.hw_models.spec import MachineSpec
from tilewright.kernels.reading.runs import MeasuredRun
from tilewright.search.gpu.kernel_options import kernel_options
from tilewright.search.gpu.layer import library_layer
from tilewright.search.mapping_cache import ForgetfulCache, MappingCache
from tilewright.search.network import ATTENTION_DATAFLOWS, Chosen, flows_of, simulate_stream
from tilewright.search.tiling import best_tiling
from tilewright.search.workload import layer_of, layer_on, pieces
from tilewright.sim.gpu.launches.launch import TENSOR_KERNELS
from tilewright.sim.lowering.evaluation import evaluate
from tilewright.sim.network_result import NetworkResult
from tilewright.sim.result import SimulationResult
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.network import load_network, network_names, network_options
from tilewright.workloads.rated_formats import with_rated_formats
from tilewright.workloads.single_operator import is_operator
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["LIMITS", "Prediction", "Subject", "network_text", "subject_of"]

#: What can limit a row, as in the tables of a network.
LIMITS = ("matrix", "vector", "dram", "weights", "fallback", "fixed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One run: whole ``cycles``, of which ``fixed_cycles`` are fixed costs; ``limited_by`` takes most of them."""

    cycles: int
    fixed_cycles: int
    seconds: float
    energy_pj: float
    limited_by: str
    assumptions: tuple[str, ...]


class Subject:
    """What a row names, on a machine; the best mappings of the first prediction are kept for others that differ little.

    ``alone``: a layer, to which the cost of an inference is not added. ``n_commands``: what it is to the device, once
    it was predicted.
    """

    def __init__(self, run: MeasuredRun, work: OperatorStream | AttentionLayer, *, alone: bool) -> None:
        self.run, self.alone = run, alone
        self.n_commands = 1
        self._work = work
        self._transfers = () if isinstance(work, AttentionLayer) else work.inputs_and_outputs_bytes()
        self._chosen = Chosen()

    def predict(self, machine: MachineSpec, *, same_mappings: bool = False, keep_mappings: bool = True) -> Prediction:
        """Every operator at its best mapping on ``machine``, or, with ``same_mappings``, at those of the first run."""
        if isinstance(self._work, AttentionLayer):
            return self._attention(self._work, machine)
        if same_mappings and self._chosen:
            result = simulate_stream(self._work, machine, only=self._chosen)
        else:
            cache = MappingCache() if keep_mappings else ForgetfulCache()
            result = simulate_stream(self._work, machine, cache=cache, chosen=self._chosen)
        self.n_commands = result.n_commands
        if result.kernels in ("eager", "fused"):
            return _of_library(result)
        fixed = self.fixed_cycles(machine)
        cycles = result.cycles - result.overhead_cycles + fixed
        return Prediction(
            cycles=cycles,
            fixed_cycles=fixed,
            seconds=machine.seconds(cycles),
            energy_pj=result.energy_pj - result.overhead_energy_pj + _constant_pj(machine, fixed),
            limited_by=_limit(result, fixed),
            assumptions=result.assumptions,
        )

    def fixed_cycles(self, machine: MachineSpec) -> int:
        """The machine's fixed costs for this."""
        once, each = overhead_cycles(machine)
        if self.alone:
            return each * self.n_commands
        return once + each * self.n_commands + host_cycles(machine, self._transfers)

    def _attention(self, layer: AttentionLayer, machine: MachineSpec) -> Prediction:
        how = kernel_options(machine)
        if not how.is_engine:
            return _alone(library_layer(layer, machine, how))
        found, fault = [], None
        flows = flows_of(layer, machine, ATTENTION_DATAFLOWS)
        for flow, piece in ((one, piece) for one in flows for piece in pieces(layer, machine, one)):
            try:
                found.append(evaluate(flow, piece, machine, best_tiling(flow, piece, machine).tiling))
            except MappingError as error:
                fault = error
        if not found and fault is not None:
            raise fault
        best, fixed = min(found, key=lambda result: result.cycles), self.fixed_cycles(machine)
        return Prediction(
            cycles=best.cycles + fixed,
            fixed_cycles=fixed,
            seconds=machine.seconds(best.cycles + fixed),
            energy_pj=best.energy_pj + _constant_pj(machine, fixed),
            limited_by="fixed" if fixed > best.cycles else best.lower_bound.limited_by,
            assumptions=best.assumptions,
        )


def _of_library(result: NetworkResult) -> Prediction:
    """A network as library kernels: launches are in their time, and it is that of ``simulate`` to the last digit."""
    parts: dict[str, float] = {}
    for kernel in (kernel for operator in result.operators for kernel in operator.kernels):
        name = {"launch": "fixed", "l2": "dram"}.get(kernel.bound, kernel.bound)
        name = name if name != "compute" else "matrix" if kernel.kernel in TENSOR_KERNELS else "vector"
        parts[name] = parts.get(name, 0.0) + kernel.seconds
    return Prediction(
        cycles=result.cycles,
        fixed_cycles=0,
        seconds=result.seconds,
        energy_pj=result.energy_pj,
        limited_by=max(parts, key=lambda name: parts[name]),
        assumptions=result.assumptions,
    )


def _alone(result: SimulationResult) -> Prediction:
    """A layer as a library kernel: its launch is in its time."""
    return Prediction(
        cycles=result.cycles,
        fixed_cycles=0,
        seconds=result.seconds,
        energy_pj=result.energy_pj,
        limited_by=result.lower_bound.limited_by,
        assumptions=result.assumptions,
    )


def _constant_pj(machine: MachineSpec, cycles: int) -> float:
    return sum(energy_by_component(machine, Counters(), cycles).values())


def subject_of(run: MeasuredRun, machine: MachineSpec) -> Subject:
    """What ``run`` names, in its formats, else in the machine's own; raises InputError where it names nothing."""
    if run.kind == "network" or is_operator(run.name) or not _is_attention(run):
        text = run.name if is_operator(run.name) else network_text(run)
        stream = load_network(text).with_formats(weights=run.weights, activations=run.activations)
        asked = [one for one in (run.weights, run.activations) if one]
        stream, _ = with_rated_formats(stream, tuple(machine.matrix.multiplies_per_pe_per_cycle), keep=asked)
        return Subject(run, stream, alone=run.kind == "layer" or is_operator(run.name))
    layer = layer_on(run.name, machine)[0]
    assert isinstance(layer, AttentionLayer)
    return Subject(run, layer, alone=True)


def _is_attention(run: MeasuredRun) -> bool:
    """Whether a layer's text names an attention layer: ``attention:...``, or one of the built-in ones."""
    try:
        return isinstance(layer_of(run.name), AttentionLayer)
    except InputError:
        if run.kind == "layer":
            raise
        return False


def network_text(run: MeasuredRun) -> str:
    """What a row names as this house writes it, with its batch."""
    name, _, options = _as_written(run.name).partition(":")
    items = [item for item in options.split(",") if item.strip()]
    if run.batch is not None and not any(item.split("=")[0].strip() == "batch" for item in items):
        if name in network_names() and "batch" not in network_options(name):
            raise InputError(f"{name}: batch: not an option of this network; given {run.batch}; allowed none")
        if run.batch > 1 or name in network_names():
            items.append(f"batch={run.batch}")
    return name + (":" + ",".join(items) if items else "")


def _as_written(text: str) -> str:
    """``text`` as a built-in network is written, where it names one in a freer way; else as it is.

    ``ResNet18`` is ``resnet-18``; words with an equals sign are options, and so are those that an option is called by
    (``block decode context=1024`` of Llama); in brackets, ``no rotary`` and ``cache concatenated`` set the option that
    they name to 0 and 1, and other remarks change nothing.
    """
    plain, *remarks = re.split(r"[()]", text)
    head, _, options = plain.partition(":")
    words = head.split()
    for n_words in range(len(words), 0, -1):
        name = _network_called("".join(words[:n_words]))
        if name is None:
            continue
        allowed = network_options(name)
        items = [item.strip() for item in options.split(",") if item.strip()]
        rest = words[n_words:]
        if any("=" not in word and word not in allowed for word in rest):
            return text.strip()
        items += [word if "=" in word else f"{word}=1" for word in rest]
        for remark in ",".join(remarks).split(","):
            said = remark.split()
            flags = [key for key in said if isinstance(allowed.get(key), int)]
            items += [f"{key}={0 if said[0] == 'no' else 1}" for key in flags]
        return name + (":" + ",".join(items) if items else "")
    return text.strip()


def _network_called(text: str) -> str | None:
    """The built-in network whose letters and digits are those of ``text``."""
    wanted = _letters(text)
    return next((name for name in network_names() if _letters(name) == wanted), None)


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _limit(result: NetworkResult, fixed: int) -> str:
    found: Mapping[str, int] = {
        name: sum(o.cycles for o in result.operators if o.bound_by == name) for name in LIMITS if name != "fixed"
    }
    return max(LIMITS, key=lambda name: found.get(name, fixed))
