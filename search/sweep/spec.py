"""A sweep as a file: which designs, workloads and dataflows, for which objective, within which limits.

Every fault is one line with file, line and field, found before anything runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MinLen

from tilewright.document import STRICT_FIELDS, parse_document, validate_data
from tilewright.document_text import read_text
from tilewright.document_yaml import Document, FieldPath, dotted, read_yaml
from tilewright.errors import InputError, unknown
from tilewright.formats import tensor_format
from tilewright.hw_models.load import load_machine, machine_names
from tilewright.hw_models.settings import changed_by_text, parted_name, settings_of
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.gpu.kernel_words import LIBRARY_KERNELS, KernelChoice
from tilewright.search.objective import Objective
from tilewright.search.sweep.conditions import Condition, Value, parse_condition
from tilewright.search.sweep.design_figures import DESIGN_FIGURES, AreaChoice, AreaRule, area_rule_of, base_values
from tilewright.search.sweep.sampling_spec import FrontObjective, SamplingSpec
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.load import load_workload
from tilewright.workloads.naming import what_is_named
from tilewright.workloads.network import load_network
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["RESULT_FIGURES", "Axis", "Interval", "Sweep", "load_sweep", "restore_sweep"]

#: What a limit may call on once a point has run.
RESULT_FIGURES = ("cycles", "seconds", "energy_pj", "power_w", "latency_ms", "energy_mj")

#: What a point runs: an attention layer, or a whole network with its attention in the point's dataflow.
SweptWorkload = AttentionLayer | OperatorStream

_LONGEST_AXIS = 100_000
_N_TRIED_ALONE = 64
_RANGE_FORMS = "{from, to, step}, {from, to, factor} or, for sobol and nsga2, {from, to, scale: linear or geometric}"

Text = Annotated[str, MinLen(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFormats:
    """Number formats of the whole networks of a sweep; None: as the network has them."""

    __pydantic_config__ = STRICT_FIELDS

    weights: Text | None = None
    activations: Text | None = None
    kv_cache: Text | None = None

    def __post_init__(self) -> None:
        for field_name in ("weights", "activations", "kv_cache"):
            try:
                tensor_format(getattr(self, field_name) or "fp16")
            except InputError as error:
                raise ValueError(f"{field_name}: {error}") from None


def _usual_dataflows() -> tuple[str, ...]:
    from tilewright.sim.lowering.family import FAMILIES

    return (FAMILIES.get("attention").usual,)


@dataclass(frozen=True, slots=True, kw_only=True)
class _SweepFile:
    __pydantic_config__ = STRICT_FIELDS

    machine: Text
    workloads: Annotated[tuple[Text, ...], MinLen(1)]
    name: Text = "sweep"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    together: tuple[Mapping[str, tuple[Any, ...]], ...] = ()
    conditions: tuple[Text, ...] = ()
    dataflows: Annotated[tuple[Text, ...], MinLen(1)] | None = None
    kernels: KernelChoice | None = None
    objective: Objective = "latency"
    sampling: SamplingSpec = field(default_factory=SamplingSpec)
    limits: tuple[Text, ...] = ()
    area: AreaChoice | None = None
    formats: NetworkFormats | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """All numbers from ``low`` to ``high``, for sampling."""

    low: float
    high: float
    geometric: bool
    whole: bool

    def at(self, share: float) -> float:
        """The number at ``share`` (0 to 1) of the way, to six digits; a whole one where the field needs that."""
        if self.geometric:
            number = self.low * (self.high / self.low) ** share
        else:
            number = self.low + (self.high - self.low) * share
        return round(number) if self.whole else float(f"{number:.6g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What varies together: ``paths`` of the machine, and the sets of values they take, or one interval."""

    paths: tuple[str, ...]
    settings: tuple[tuple[Value, ...], ...] = ()
    interval: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A checked sweep; ``text`` is the file as it was."""

    name: str
    text: str
    machine: MachineSpec
    axes: tuple[Axis, ...]
    conditions: tuple[Condition, ...]
    layers: tuple[SweptWorkload, ...]
    dataflows: tuple[str, ...]
    objective: Objective
    sampling: SamplingSpec
    limits: tuple[Condition, ...]
    area: AreaRule | None

    @property
    def model(self) -> str:
        """What times the points: on a GPU ``eager`` or ``fused`` library kernels, else the ``engine``."""
        return self.dataflows[0] if self.dataflows[0] in LIBRARY_KERNELS else "engine"

    @property
    def paths(self) -> tuple[str, ...]:
        """The fields of the machine that the sweep changes."""
        return tuple(path for axis in self.axes for path in axis.paths)


def load_sweep(source: str | Path | Mapping[str, Any], *, settings: Sequence[str] = ()) -> Sweep:
    """The sweep in a YAML file, or given as the same fields in a mapping; ``settings`` (``matrix.rows=32``) change its
    machine.

    Paths of machines and workloads in a file are relative to it. Raises InputError with every fault's line.
    """
    if isinstance(source, Mapping):
        data = dict(source)
        file = validate_data(data, _SweepFile, what="sweep", name="sweep")
        text = json.dumps(data, indent=2, default=str)
        return _Reader(file, Document(data=data), "sweep", Path(), text, settings=settings).sweep()
    text = read_text(source, what="sweep", allowed="the path of a sweep file in YAML")
    file = parse_document(text, _SweepFile, what="sweep", name=str(source))
    document = read_yaml(text, "sweep", str(source))
    return _Reader(file, document, str(source), Path(source).parent, text, settings=settings).sweep()


def restore_sweep(text: str, machine: MachineSpec, *, name: str, folder: Path) -> Sweep:
    """The sweep whose file was ``text``, with the base ``machine`` that it had then; ``name`` is its place in messages.

    Workload files are looked for in ``folder``. Raises InputError as :func:`load_sweep` does.
    """
    file = parse_document(text, _SweepFile, what="sweep", name=name)
    return _Reader(file, read_yaml(text, "sweep", name), name, folder, text, machine).sweep()


class _Reader:
    """Turns the file into a :class:`Sweep`; it knows where everything stands."""

    def __init__(
        self,
        file: _SweepFile,
        document: Document,
        name: str,
        folder: Path,
        text: str,
        known_machine: MachineSpec | None = None,
        settings: Sequence[str] = (),
    ) -> None:
        self.settings = settings
        self.known_machine = known_machine
        self.file = file
        self.document = document
        self.name = name
        self.folder = folder
        self.text = text
        self.homes: dict[str, FieldPath] = {}

    def sweep(self) -> Sweep:
        from tilewright.search.api import dataflow_names

        file = self.file
        machine = self.changed(self.machine())
        axes = (*self.parameters(machine), *self.together(machine))
        self.check_values(machine, axes)
        if machine.groups and any(not isinstance(layer, OperatorStream) for layer in self.layers()):
            raise self.fault(
                ("machine",),
                f"{machine.name} has unlike groups of cores; given single layers; allowed networks, or one group "
                f'("{self.file.machine} with group={machine.main}")',
            )
        values = base_values(machine)
        area = self.area() or area_rule_of(machine)
        known = {*values, *self.homes, *DESIGN_FIGURES}
        flows = file.dataflows or ()
        for at, dataflow in enumerate(flows):
            if dataflow not in dataflow_names():
                raise self.fault(("dataflows", at), str(unknown("dataflow", dataflow, dataflow_names())))
            if dataflow in flows[:at]:
                raise self.fault(("dataflows", at), f'"{dataflow}" is given twice; allowed once')
        if flows and file.kernels in LIBRARY_KERNELS:
            raise self.fault(("kernels",), f"is for library kernels; given {file.kernels} with dataflows; allowed one")
        return Sweep(
            name=file.name,
            text=self.text,
            machine=machine,
            axes=axes,
            conditions=self.conditions("conditions", file.conditions, known, machine, area),
            layers=self.layers(),
            dataflows=flows or self.ways(machine),
            objective=file.objective,
            sampling=self.sampling(machine, area),
            limits=self.conditions("limits", file.limits, {*DESIGN_FIGURES, *RESULT_FIGURES}, machine, area),
            area=area,
        )

    def ways(self, machine: MachineSpec) -> tuple[str, ...]:
        """Without named dataflows: on a GPU the library's kernels, by the word for how they are launched."""
        from tilewright.search.gpu.kernel_options import kernel_options

        try:
            how = kernel_options(machine, self.file.kernels)
        except InputError as error:
            raise self.placed(("kernels",), error) from None
        return _usual_dataflows() if how.is_engine else (how.kernels,)

    def fault(self, path: FieldPath, message: str, *, at_key: bool = False) -> InputError:
        place = self.document.places.get(path)
        where = self.name
        if place is not None:
            line, column = (place.key_line, place.key_column) if at_key else (place.line, place.column)
            where = f"{self.name}:{line}:{column}"
        return InputError(f"{where}: {dotted(path)}: {message}")

    def placed(self, path: FieldPath, error: InputError) -> InputError:
        """``error`` at ``path`` of this file."""
        return self.fault(path, str(error).splitlines()[0])

    def machine(self) -> MachineSpec:
        if self.known_machine is not None:
            return self.known_machine
        given = self.file.machine
        name = parted_name(given)[0]
        is_file = name not in machine_names() and (name.endswith((".yaml", ".yml")) or "/" in name)
        if is_file:
            return load_machine(str(self.folder / given))
        try:
            return load_machine(given)
        except InputError as error:
            raise self.placed(("machine",), error) from None

    def changed(self, machine: MachineSpec) -> MachineSpec:
        """``machine`` with the settings; raises InputError for one that the file varies: it would change nothing."""
        if not self.settings:
            return machine
        varied = {*self.file.parameters, *(path for group in self.file.together for path in group)}
        for path in settings_of(self.settings):
            if path in varied:
                raise InputError(f"--set: {path}: is varied by {self.name}; allowed for what it does not vary")
        try:
            return changed_by_text(machine, self.settings)
        except InputError as error:
            raise InputError(*(f"--set: {line}" for line in error.args)) from None

    def area(self) -> AreaRule | None:
        if self.file.area is None:
            return None
        try:
            return self.file.area.rule()
        except InputError as error:
            field, _, said = str(error).removeprefix("area.").partition(": ")
            raise self.fault(("area", field), said) from None

    def sampling(self, machine: MachineSpec, area: AreaRule | None) -> SamplingSpec:
        given = self.file.sampling
        if not given.is_adaptive:
            return given
        if "area" in given.objectives and area is None:
            raise self.fault(("sampling", "objectives", given.objectives.index("area")), _no_area(machine))
        known: tuple[FrontObjective, ...] = ("latency", "energy") if area is None else ("latency", "energy", "area")
        return replace(given, objectives=given.objectives or known)

    def layers(self) -> tuple[SweptWorkload, ...]:
        layers: list[SweptWorkload] = []
        for at, given in enumerate(self.file.workloads):
            is_file = given.endswith((".yaml", ".yml"))
            try:
                layer = load_workload(self.folder / given) if is_file else self.named(given)
            except InputError as error:
                raise (error if is_file else self.placed(("workloads", at), error)) from None
            if layer.name in [other.name for other in layers]:
                raise self.fault(("workloads", at), f'"{layer.name}" is given twice; allowed different names')
            layers.append(layer)
        return tuple(layers)

    def named(self, given: str) -> SweptWorkload:
        """An attention layer, or a whole network in the sweep's formats."""
        what = what_is_named(given)
        if what.kind == "attention":
            return load_workload(what.text)
        in_folder = self.folder / what.text.partition(":")[0]
        network = load_network(str(self.folder / what.text) if in_folder.is_file() else what.text)
        formats = self.file.formats or NetworkFormats()
        return network.with_formats(weights=formats.weights, activations=formats.activations, cache=formats.kv_cache)

    def parameters(self, machine: MachineSpec) -> list[Axis]:
        axes = []
        fields = base_values(machine)
        for given, values in self.file.parameters.items():
            place: FieldPath = ("parameters", given)
            path = self.path(machine, given, place)
            if isinstance(values, Mapping):
                axes.append(self.ranged(path, values, place, whole=isinstance(fields.get(path), int)))
            else:
                listed = values if isinstance(values, list | tuple) else [values]
                axes.append(Axis(paths=(path,), settings=tuple((v,) for v in self.listed(listed, place))))
        return axes

    def together(self, machine: MachineSpec) -> list[Axis]:
        axes = []
        for at, columns in enumerate(self.file.together):
            place: FieldPath = ("together", at)
            if not columns:
                raise self.fault(place, "nothing is tied together; allowed two or more parameters with a list each")
            paths = tuple(self.path(machine, given, (*place, given)) for given in columns)
            lengths = {given: len(values) for given, values in columns.items()}
            if len(set(lengths.values())) > 1:
                shown = ", ".join(f"{given} {length}" for given, length in lengths.items())
                raise self.fault(place, f"lists of different lengths; given {shown}; allowed one value each in a set")
            lists = [self.listed(values, (*place, given), unique=False) for given, values in columns.items()]
            rows = zip(*lists, strict=True)
            axes.append(Axis(paths=paths, settings=tuple(dict.fromkeys(rows))))
        return axes

    def path(self, machine: MachineSpec, given: str, place: FieldPath) -> str:
        """The parameter's path with buffers by name; each may be given once."""
        steps = given.split(".")
        if steps[0] == "buffers" and len(steps) > 1 and steps[1].isdecimal() and int(steps[1]) < len(machine.buffers):
            steps[1] = machine.buffers[int(steps[1])].name
        path = ".".join(steps)
        if path in self.homes:
            raise self.fault(place, "is varied twice; allowed in one place", at_key=True)
        if steps[0] in ("name", "description", "assumptions", "sources"):
            raise self.fault(place, "is no figure of the machine; allowed for example matrix.rows", at_key=True)
        self.homes[path] = place
        return path

    def listed(self, values: Sequence[Any], place: FieldPath, *, unique: bool = True) -> list[Value]:
        if not values:
            raise self.fault(place, "no value; allowed a list of at least one value")
        for at, value in enumerate(values):
            if not isinstance(value, str | int | float):
                raise self.fault((*place, at), "not a single value; allowed numbers, texts, true and false")
            if unique and value in values[:at]:
                raise self.fault((*place, at), f"{value} is given twice; allowed once")
        # 1 and 1.0 are one design, wherever it was written.
        return [_tidy(value) if isinstance(value, float) else value for value in values]

    def ranged(self, path: str, given: Mapping[str, Any], place: FieldPath, *, whole: bool) -> Axis:
        allowed = ("from", "to", "step", "factor", "scale")
        for key in given:
            if key not in allowed:
                raise self.fault((*place, key), str(unknown("field", key, allowed)), at_key=True)
        numbers = {key: value for key, value in given.items() if key != "scale"}
        for key, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise self.fault((*place, key), f"not a number; given {value}; allowed a number")
        if "from" not in given or "to" not in given or ("step" in given and "factor" in given):
            raise self.fault(place, f"not a range; allowed {_RANGE_FORMS}")
        low, high = given["from"], given["to"]
        if low > high:
            raise self.fault((*place, "to"), f"out of range; given {high}; allowed at least {low}")
        if "step" in given or "factor" in given:
            if "scale" in given:
                raise self.fault((*place, "scale"), "is for ranges without step or factor", at_key=True)
            return Axis(paths=(path,), settings=tuple((value,) for value in self.steps(given, place)))
        if self.file.sampling.method == "grid":
            raise self.fault(place, f"a grid needs a step or a factor; allowed {_RANGE_FORMS}")
        scale = given.get("scale", "linear")
        if scale not in ("linear", "geometric"):
            raise self.fault((*place, "scale"), f'unknown scale; given "{scale}"; allowed linear, geometric')
        if scale == "geometric" and low <= 0:
            raise self.fault((*place, "from"), f"out of range; given {low}; allowed a number greater than 0")
        interval = Interval(low=low, high=high, geometric=scale == "geometric", whole=whole)
        return Axis(paths=(path,), interval=interval)

    def steps(self, given: Mapping[str, Any], place: FieldPath) -> list[Value]:
        low, high = given["from"], given["to"]
        if "step" in given:
            step = given["step"]
            if step <= 0:
                raise self.fault((*place, "step"), f"out of range; given {step}; allowed a number greater than 0")
            steps = (high - low) / step
            values = (low + at * step for at in count())
        else:
            factor = given["factor"]
            if factor <= 1 or low <= 0:
                bad, least = ("factor", 1) if factor <= 1 else ("from", 0)
                message = f"out of range; given {given[bad]}; allowed a number greater than {least}"
                raise self.fault((*place, bad), message)
            steps = (math.log(high) - math.log(low)) / math.log(factor)
            values = (_grown(low, factor, at) for at in count())
        if not steps + 1e-9 < _LONGEST_AXIS:  # infinitely many, too
            n = f"{steps + 1:,.0f}" if steps < 1e15 else f"{steps:.3g}"
            raise self.fault(place, f"{n} values; allowed at most {_LONGEST_AXIS:,}")
        return [_tidy(value) for value in islice(values, math.floor(steps + 1e-9) + 1)]

    def check_values(self, machine: MachineSpec, axes: Sequence[Axis]) -> None:
        """Try each value alone; one that is wrong alone and together with the rest is a fault of the file."""
        firsts = {path: value for axis in axes for path, value in zip(axis.paths, _first(axis), strict=True)}
        for axis in axes:
            tried = axis.settings or (_first(axis),)
            for at, setting in enumerate(islice(tried, _N_TRIED_ALONE)):
                changes = dict(zip(axis.paths, setting, strict=True))
                try:
                    machine.with_(**changes)
                except InputError:
                    try:
                        machine.with_(**{**firsts, **changes})
                    except InputError as error:
                        raise self.wrong_value(machine, axis, at, error) from None

    def wrong_value(self, machine: MachineSpec, axis: Axis, at: int, error: InputError) -> InputError:
        """``error`` of the machine with value ``at`` of ``axis``, at that value; an unknown field, at its key."""
        said = str(error).splitlines()[0].removeprefix(f"{machine.name}: ")
        path = next((path for path in axis.paths if said.startswith(f"{path}: ")), axis.paths[0])
        said = said.removeprefix(f"{path}: ")
        home = self.homes[path]
        if said.startswith("unknown field"):
            return self.fault(home, said, at_key=True)
        here = self.document.data
        for step in home:
            here = here[step]
        return self.fault((*home, at) if isinstance(here, list | tuple) else home, said)

    def conditions(
        self, section: str, texts: Sequence[str], known: set[str], machine: MachineSpec, area: AreaRule | None
    ) -> tuple[Condition, ...]:
        found = []
        for at, text in enumerate(texts):
            try:
                condition = parse_condition(text, known)
            except InputError as error:
                raise self.placed((section, at), error) from None
            if "area_mm2" in condition.names and area is None:
                raise self.fault((section, at), _no_area(machine))
            found.append(condition)
        return tuple(found)


def _no_area(machine: MachineSpec) -> str:
    return (
        f"the area is not known: {machine.name} does not give matrix_mm2, vector_mm2 and buffers_mm2; allowed with "
        "area: {node_nm: 45, pe_format: int8}, or with area: {mm2_per_pe, mm2_per_lane, mm2_per_kib} in the sweep"
    )


def _first(axis: Axis) -> tuple[Value, ...]:
    return axis.settings[0] if axis.interval is None else (axis.interval.low,)


def _grown(low: float, factor: float, times: int) -> float:
    """low * factor^times, also where the power alone is beyond a floating-point number."""
    try:
        return low * factor**times
    except OverflowError:
        return math.exp(math.log(low) + times * math.log(factor))


def _tidy(value: float) -> Value:
    """Without the dust of binary fractions: 0.1 + 2 x 0.1 is 0.3, and a whole number is whole."""
    rounded = float(f"{value:.12g}")
    return int(rounded) if rounded.is_integer() else rounded
