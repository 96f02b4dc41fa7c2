"""What every option costs on a machine, from the simulator, each operator at its best mapping.

For each pair of formats the network is run once with all layers in it (a layer without that option in its widest). A
layer's option costs what its operators cost there; the rest of the network what it costs beside the widest options. The
sum is off by what a border between formats and the loading of weights ahead change: the whole network is run again with
the mixed formats to say by how much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tilewright.errors import InputError, unknown
from tilewright.formats import element_format, format_bits
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress, part
from tilewright.search.bits.cost_kinds import COSTS, simulated_kinds
from tilewright.search.bits.problem import Assignment, BitProblem, CostKind, Option, problem_of
from tilewright.search.bits.sensitivity import LayerSensitivity, OptionSensitivity, Sensitivity
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import ATTENTION_DATAFLOWS, simulate_stream
from tilewright.search.objective import Objective
from tilewright.sim.network_result import NetworkResult, OperatorResult
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.formats import OperatorFormats, with_operator_formats
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.stream.tensor_formats import by_tensor, operand_formats

__all__ = [
    "BitCosts",
    "SimulationSettings",
    "difference",
    "in_reference",
    "operators_of",
    "simulated_costs",
]

Pair = tuple[str, str]  # formats of weights and activations


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSettings:
    """How the networks are run; see :func:`tilewright.simulate_network`."""

    objective: Objective = "latency"
    prefetch: bool = True
    fuse: bool = True
    attention_dataflows: Sequence[str] = ATTENTION_DATAFLOWS
    cache: MappingCache = field(default_factory=MappingCache)


class BitCosts:
    """A network on a machine whose layers may take the options of a table.

    ``problem`` has all costs; :meth:`run` really simulates an assignment. Runs are kept, so asking twice costs nothing.
    """

    def __init__(
        self,
        stream: OperatorStream,
        machine: MachineSpec,
        sensitivity: Sensitivity,
        settings: SimulationSettings,
        *,
        progress: Progress | None = None,
    ) -> None:
        self.machine = machine
        self.sensitivity = sensitivity
        self.settings = settings
        self._operators = operators_of(stream, sensitivity)
        self.stream = in_reference(stream, sensitivity)
        self._runs: dict[tuple[tuple[str, OperatorFormats], ...], NetworkResult] = {}
        counted = problem_of(sensitivity)
        self._by_pair = self._uniform_runs(counted, progress)
        reference = self._run(counted, counted.reference)
        self.problem = problem_of(sensitivity, self._costs, self._constants(counted, reference))

    def run(self, assignment: Assignment, progress: Progress | None = None) -> NetworkResult:
        """The whole network with the formats of ``assignment``, really simulated."""
        return self._run(self.problem, assignment, progress)

    def real_costs(self, assignment: Assignment) -> dict[CostKind, int]:
        """Every cost of ``assignment``, the simulated ones from the run of the whole network."""
        return {**self.problem.costs(assignment), **_figures([self.run(assignment)])}

    def energy_apart_from_traffic_pj(self, layer: str, option: Option) -> float:
        """What the operators of ``layer`` take in an option besides the bytes that they move to and from DRAM."""
        price = self.machine.energy
        results = self._by_pair[option.weights, option.activations]
        return sum(
            one.energy_pj
            - one.dram_read_bytes * price.dram_read_pj_per_byte
            - one.dram_write_bytes * price.dram_write_pj_per_byte
            for one in (results[operator.name] for operator in self._operators[layer])
        )

    def formatted(self, assignment: Assignment) -> OperatorStream:
        """The stream in the formats of ``assignment``."""
        return with_operator_formats(self.stream, self._formats(self.problem, assignment))

    def _run(self, problem: BitProblem, assignment: Assignment, progress: Progress | None = None) -> NetworkResult:
        formats = self._formats(problem, assignment)
        key = tuple(sorted(formats.items(), key=lambda item: item[0]))
        if key not in self._runs:
            self._runs[key] = simulate_stream(
                with_operator_formats(self.stream, formats),
                self.machine,
                objective=self.settings.objective,
                prefetch=self.settings.prefetch,
                fuse=self.settings.fuse,
                attention_dataflows=self.settings.attention_dataflows,
                widen=True,
                cache=self.settings.cache,
                progress=progress,
            )
        return self._runs[key]

    def _formats(self, problem: BitProblem, assignment: Assignment) -> dict[str, OperatorFormats]:
        chosen = problem.by_layer(assignment)
        return {
            operator.name: OperatorFormats(weights=chosen[name].weights, activations=chosen[name].activations)
            for name, operators in self._operators.items()
            for operator in operators
        }

    def _uniform_runs(self, counted: BitProblem, progress: Progress | None) -> dict[Pair, dict[str, OperatorResult]]:
        """Results by operator for each pair of formats in which all layers can be."""
        pairs = list(dict.fromkeys(key[:2] for key in counted.option_keys()))
        found: dict[Pair, dict[str, OperatorResult]] = {}
        for at, (weights, activations) in enumerate(pairs):
            assignment = tuple(
                next((i for i, o in enumerate(d.options) if (o.weights, o.activations) == (weights, activations)), 0)
                for d in counted.decisions
            )
            result = self._run(counted, assignment, part(progress, at, len(pairs), before=f"{weights}/{activations}: "))
            found[weights, activations] = {one.name: one for one in result.operators}
        return found

    def _costs(self, layer: LayerSensitivity, option: OptionSensitivity) -> dict[CostKind, int]:
        results = self._by_pair[option.weights, option.activations]
        own = [results[operator.name] for operator in self._operators[layer.name]]
        return _figures(own)

    def _constants(self, counted: BitProblem, reference: NetworkResult) -> dict[CostKind, int]:
        """What the rest of the network costs beside layers in their widest options."""
        totals = _figures([reference])
        chosen = counted.by_layer(counted.reference)
        for layer, option in ((layer, _same(layer, chosen[layer.name])) for layer in self.sensitivity.layers):
            for kind, cost in self._costs(layer, option).items():
                totals[kind] -= cost
        listed = {operator.name for operators in self._operators.values() for operator in operators}
        stream = with_operator_formats(self.stream, self._formats(counted, counted.reference))
        weights = {
            stream.base(op.inputs[1]).name for op in stream.operators if op.name in listed and len(op.inputs) > 1
        }
        stored = [t for t in stream.tensors if t.role == "weight" and t.view_of is None and t.name not in weights]
        totals["size"] = sum(8 * tensor.n_bytes for tensor in stored)
        totals["bops"] = sum(_bit_operations(stream, op) for op in stream.operators if op.name not in listed)
        return totals


def _same(layer: LayerSensitivity, option: Option) -> OptionSensitivity:
    return next(one for one in layer.options if one.key == option.key)


def _figures(results: Sequence[OperatorResult | NetworkResult]) -> dict[CostKind, int]:
    """Every simulated cost, added up over ``results``."""
    found = {}
    for name, cost in COSTS.items():
        if cost.figure is not None:
            found[name] = round(cost.per_figure * sum(map(cost.figure, results)))
    return found


def _bit_operations(stream: OperatorStream, operator: Operator) -> int:
    if not operator.of_kind.n_operands:
        return 0
    a, b = (format_bits(element_format(stream.tensor(name).number_format)) for name in operator.inputs[:2])
    return operator.macs * a * b


def operators_of(stream: OperatorStream, sensitivity: Sensitivity) -> dict[str, tuple[Operator, ...]]:
    """The operators of each layer.

    Raises InputError for a name that is none, an operator of two layers, and a layer with more or fewer weights than
    its operators have.
    """
    known = {operator.name: operator for operator in stream.operators if operator.of_kind.n_operands}
    by_path = {operator.path: operator for operator in known.values() if operator.path}
    found: dict[str, tuple[Operator, ...]] = {}
    owners: dict[str, str] = {}
    for layer in sensitivity.layers:
        members = []
        for name in layer.operator_names:
            operator = known.get(name) or by_path.get(name)
            if operator is None:
                fault = f"{stream.name} has no product of that name"
                raise unknown("product", name, known, place=f"sensitivity: {layer.name}", fault=fault)
            if operator.name in owners:
                raise InputError(
                    f"sensitivity: {layer.name}: operator {operator.name} belongs to layer {owners[operator.name]} too"
                )
            owners[operator.name] = layer.name
            members.append(operator)
        _check_weights(stream, sensitivity, layer, members)
        found[layer.name] = tuple(members)
    return found


def _check_weights(
    stream: OperatorStream, sensitivity: Sensitivity, layer: LayerSensitivity, members: Sequence[Operator]
) -> None:
    """Refuse a layer of another size than its operators': the table of another network has the same names, too."""
    for one in members:
        for option in layer.options:
            operand_formats(one, option.activations)
    weights = {tensor.name: tensor for tensor in (stream.tensor(one.inputs[1]) for one in members)}
    if any(stream.base(name).role != "weight" for name in weights):
        return
    n_weights = sum(tensor.n_elements for tensor in weights.values())
    if n_weights != layer.n_weights:
        raise InputError(
            f"sensitivity: {layer.name}: n_weights: given {layer.n_weights}; allowed {n_weights}, as {stream.name} has "
            f'(the table is of "{sensitivity.network}")'
        )


def in_reference(stream: OperatorStream, sensitivity: Sensitivity) -> OperatorStream:
    """``stream`` with everything that no layer decides in the widest formats of the table.

    What a scan's options say of its state is nothing that weights could take.
    """
    of_layer = operators_of(stream, sensitivity)
    with_weights = [one for one in sensitivity.layers if not all(op.of_kind.tensors for op in of_layer[one.name])]
    options = [option for layer in with_weights or sensitivity.layers for option in layer.options]
    plain = [option for option in options if not by_tensor(option.activations)]
    if not plain:
        raise InputError(
            f"sensitivity: {sensitivity.network}: no option has one format for all tensors; allowed one or more"
        )
    widest = max(plain, key=lambda option: option.n_bits)
    return stream.with_formats(weights=widest.weights if with_weights else None, activations=widest.activations)


def simulated_costs(
    stream: OperatorStream,
    machine: MachineSpec,
    sensitivity: Sensitivity,
    settings: SimulationSettings | None = None,
    *,
    progress: Progress | None = None,
) -> BitCosts:
    """The table's options with what they cost in ``stream`` on ``machine``.

    What no layer decides (residuals, operators that are not listed) is in the widest formats of the table. Raises
    InputError for layers that are no operators of the stream, and for a format that the machine cannot multiply at all.
    """
    return BitCosts(stream, machine, sensitivity, settings or SimulationSettings(), progress=progress)


def difference(model: Mapping[CostKind, int], real: Mapping[CostKind, int]) -> dict[CostKind, float]:
    """How far the sums of operators' costs are from the real run, as a share of it."""
    return {kind: model[kind] / real[kind] - 1.0 for kind in simulated_kinds() if kind in model and real.get(kind)}
