"""``tilewright show``: everything about one machine, layer, operator, network or dataflow."""

from __future__ import annotations

import re
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tilewright.cli.complete import anything
from tilewright.cli.inputs import machine_of
from tilewright.cli.options import CsvOption, JsonOption, SetOption
from tilewright.cli.outputs import Outputs, note
from tilewright.errors import InputError, unknown
from tilewright.reports.files import check_apart, check_file

if TYPE_CHECKING:
    from tilewright.sim.jobs import JobLayer
    from tilewright.workloads.naming import Named

__all__ = ["show"]

_YAML = re.compile(r"\.ya?ml$")
_HEADS = re.compile(r"^heads\s*:", re.MULTILINE)
_MOST_KINDS = 30
_NAMED = "a machine, a layer, an operator, a network or a dataflow (tilewright list WHAT shows them)"

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A machine (edge-16x16, a YAML file), a layer (bert-base), an operator (gemm:m=512,n=768,k=768), a "
        "network (resnet-50, network:bert-base, model.onnx) or a dataflow (mas).",
        show_default=False,
        autocompletion=anything,
    ),
]


YamlOption = Annotated[
    str | None,
    typer.Option(
        "--yaml",
        metavar="FILE|-",
        help="Write a machine as a file of its own, with all that it inherits and every --set.",
        rich_help_panel="Output",
    ),
]


def show(
    name: NameArgument, set_: SetOption = None, yaml: YamlOption = None, json: JsonOption = None, csv: CsvOption = None
) -> None:
    """Show a machine with every figure and its source, or a layer, an operator, a network, a dataflow."""
    outputs = Outputs(json=json, csv=csv)
    outputs.check(name)
    if yaml is not None and (json or csv):
        raise InputError(f"--yaml: writes the machine itself; allowed without {'--json' if json else '--csv'}")
    if yaml is not None and yaml != "-":
        check_file(yaml, what="--yaml")
        check_apart(yaml, [name], what="--yaml")
    from tilewright.hw_models.load import machine_names
    from tilewright.hw_models.settings import parted_name
    from tilewright.sim.lowering.mapping import DATAFLOWS
    from tilewright.workloads.single_operator import operator_kinds

    text = name.strip()
    if parted_name(text)[0] in machine_names() or (_YAML.search(text) and not _is_layer_file(text)):
        if yaml is not None:
            _write_machine(text, set_, yaml)
            return
        _show_machine(outputs, text, set_)
    elif set_ or yaml:
        raise InputError(f'{"--set" if set_ else "--yaml"}: is for machines; given "{name}"')
    elif text in DATAFLOWS.names() and text not in operator_kinds():
        _show_dataflow(outputs, text)
    else:
        named = _named(text)
        if named.kind == "network":
            _show_network(outputs, named.text)
        else:
            _show_layer(outputs, named)


def _is_layer_file(text: str) -> bool:
    """Whether a YAML file describes an attention layer; one that cannot be read is left to the loader of machines."""
    try:
        if not Path(text).is_file():  # reading a pipe would wait for ever
            return False
        with Path(text).open(encoding="utf-8") as file:
            return bool(_HEADS.search(file.read(65536)))
    except (OSError, UnicodeError):
        return False


def _named(text: str) -> Named:
    """What a workload's name means; a name of nothing is refused with the nearest of all that there is."""
    from tilewright.hw_models.load import machine_names
    from tilewright.search.api import dataflow_names
    from tilewright.workloads.load import workload_names
    from tilewright.workloads.naming import what_is_named
    from tilewright.workloads.network import network_names
    from tilewright.workloads.single_operator import operator_kinds

    try:
        return what_is_named(text)
    except InputError:
        names = [*machine_names(), *workload_names(), *network_names(), *dataflow_names(), *operator_kinds()]
        raise unknown("name", text, names, shown=_NAMED) from None


def _write_machine(text: str, settings: list[str] | None, place: str) -> None:
    """The machine as a file: one of ours as it stands there, else all that it is."""
    from tilewright.hw_models.load import machine_names, machine_text
    from tilewright.reports.files import write_file

    is_ours = text in machine_names() and not settings
    written = (
        machine_text(text) if is_ours else machine_of(text, settings, for_engine=False, keep_groups=True).to_yaml()
    )
    if place == "-":
        print(written, end="")
    else:
        note(f"wrote {write_file(place, written)}")


def _show_machine(outputs: Outputs, text: str, settings: list[str] | None) -> None:
    spec = machine_of(text, settings, for_engine=False, keep_groups=True)

    from rich.text import Text

    from tilewright.hw_models.describe import describe, unused_sources
    from tilewright.reports.origin import Origin
    from tilewright.reports.table import Column, fitted_table, listed_text

    rows = describe(spec)
    for text in unused_sources(spec):
        note(f"{spec.name}: {text}")
    numbers = {source: number for number, source in enumerate(dict.fromkeys(row.source for row in rows), start=1)}
    columns = [
        Column(header="figure", cells=[row.path for row in rows], right=False),
        Column(
            header="value",
            cells=[f"{_value_text(row.value)} {row.unit}".rstrip() for row in rows],
            right=False,
            fold=16,
        ),
        Column(header="kind", cells=[row.kind for row in rows], right=False),
        Column(header="source", cells=[f"[{numbers[row.source]}]" for row in rows], right=False),
    ]
    outputs.show(
        Text(f"{spec.name}: {spec.description}" if spec.description else spec.name, style="bold"),
        fitted_table(outputs.console(), "figures", columns),
        listed_text("sources", [f"[{number}] {source}" for source, number in numbers.items()], sign=""),
        listed_text("assumptions", spec.stated),
    )
    figures = [
        {"figure": row.path, "value": row.value, "unit": row.unit, "kind": row.kind, "source": row.source}
        for row in rows
    ]
    data = {"name": spec.name, "description": spec.description, "figures": figures}
    origin = Origin(machines=(spec,))
    outputs.write_json({**data, "assumptions": list(spec.stated)}, origin)
    outputs.write_csv(figures, origin)


def _show_layer(outputs: Outputs, named: Named) -> None:
    from tilewright.reports.layer_words import layer_words
    from tilewright.reports.origin import Origin, layer_facts
    from tilewright.reports.table import figures_table
    from tilewright.search.workload import layer_of

    layer = layer_of(named.text)
    if named.note:
        note(named.note)
    facts = layer_facts(layer)
    figures = _figures_of(layer)
    rows = [("what", layer_words(layer)), *((key.replace("_", " "), _value_text(n)) for key, n in figures.items())]
    rows += [*_work_rows(layer), *_source_rows(named.text)]
    outputs.show(figures_table(layer.name, rows))
    data = {"name": layer.name, "what": layer_words(layer), **figures}
    origin = Origin(workloads=(facts,))
    outputs.write_json(data, origin)
    outputs.write_csv([data], origin)


def _figures_of(layer: JobLayer) -> dict[str, Any]:
    """The fields of a layer that say something: no parts that it lacks, and no formats of these."""
    absent = {field.name.removesuffix("_format") for field in fields(layer) if not getattr(layer, field.name)}
    absent |= {"sink"} if "sinks" in absent else set()
    absent |= {"bias"} if "bias_heads" in absent else set()
    found = {}
    for field in fields(layer):
        value = getattr(layer, field.name)
        is_part = field.name in absent or field.name.removesuffix("_format") in absent
        if field.name != "name" and not is_part and isinstance(value, int | str | Fraction):
            found[field.name] = float(value) if isinstance(value, Fraction) else value
    return found


def _work_rows(layer: JobLayer) -> list[tuple[str, str]]:
    """Multiply-adds and the bytes that must be moved once."""
    from tilewright.reports.quantity import bytes_text, count_text
    from tilewright.workloads.attention import AttentionLayer
    from tilewright.workloads.gemm import GemmLayer

    if isinstance(layer, AttentionLayer):
        n_bytes = layer.query_bytes + layer.key_bytes + layer.value_bytes + layer.output_bytes
        parts = f"Q {bytes_text(layer.query_bytes)}, K {bytes_text(layer.key_bytes)}, V {bytes_text(layer.value_bytes)}"
        moved = f"{bytes_text(n_bytes)} ({parts}, O {bytes_text(layer.output_bytes)})"
    elif isinstance(layer, GemmLayer):
        moved = bytes_text(-(-layer.compulsory_bits // 8))
    else:
        return []
    return [("multiply-adds", count_text(layer.macs)), ("moved once", moved)]


def _source_rows(text: str) -> list[tuple[str, str]]:
    from tilewright.workloads.load import workload_names, workload_source

    name = text.partition(":")[0]
    return [("source", workload_source(name))] if name in workload_names() else []


def _show_network(outputs: Outputs, text: str) -> None:
    from tilewright.cli.progress import patience
    from tilewright.reports.layer_words import network_words
    from tilewright.reports.origin import Origin, network_facts
    from tilewright.reports.quantity import bytes_text, count_text
    from tilewright.reports.table import Column, figures_table, fitted_table
    from tilewright.workloads.network import load_network, network_names, network_options, network_source

    with patience(f"reading {text}"):
        stream = load_network(text)
    facts = network_facts(stream)
    base = text.removeprefix("network:").partition(":")[0]
    rows = [
        ("operators", f"{len(stream.operators):,}, {len(stream.distinct()):,} of them distinct"),
        ("multiply-adds", count_text(stream.macs)),
        ("weights", f"{count_text(stream.n_weights)} in {bytes_text(stream.weight_bytes)}"),
        ("formats", facts.formats),
    ]
    if stream.n_steps > 1:
        rows.append(("steps", f"{stream.n_steps}; figures are for one"))
    if base in network_names() and network_words(base):
        options = " ".join(f"{key}={value}" for key, value in network_options(base).items())
        rows += [("options", f"{options} (as {base}:key=value,...)"), ("source", network_source(base))]
    distinct = sorted(stream.rows(distinct=True), key=lambda row: -row["macs"] * row["count"])
    shown = distinct[:_MOST_KINDS]
    columns = [
        Column(header="operator", cells=[row["operator"] for row in shown], right=False, fold=28),
        Column(header="n", cells=[f"{row['count']:,}" for row in shown]),
        Column(header="kind", cells=[row["kind"] for row in shown], right=False, rank=1),
        Column(header="size", cells=[row["size"] for row in shown], right=False, rank=2),
        Column(header="multiply-adds", cells=[count_text(row["macs"] * row["count"]) for row in shown]),
        Column(header="weights", cells=[bytes_text(row["weight_bytes"] * row["count"]) for row in shown]),
        Column(header="formats", cells=[row["formats"] for row in shown], right=False, rank=3),
    ]
    more = f"and {len(distinct) - len(shown):,} more distinct operators" if len(shown) < len(distinct) else ""
    title = "distinct operators, most multiply-adds first"
    outputs.show(figures_table(stream.name, rows), fitted_table(outputs.console(), title, columns, caption=more))
    origin = Origin(workloads=(facts,))
    data = {
        "name": stream.name,
        "n_operators": len(stream.operators),
        "macs": stream.macs,
        "n_weights": stream.n_weights,
        "weight_bytes": stream.weight_bytes,
        "n_steps": stream.n_steps,
        "distinct_operators": distinct,
    }
    outputs.write_json(data, origin)
    outputs.write_csv(stream.rows(), origin)


def _show_dataflow(outputs: Outputs, name: str) -> None:
    from tilewright.reports.table import Column, figures_table, fitted_table, listed_text
    from tilewright.sim.lowering.mapping import DATAFLOWS

    flow = DATAFLOWS.get(name)
    tiles: list[dict[str, Any]] = [
        {"phase": phase.name, "tile": parameter.name, "least": parameter.smallest, "meaning": parameter.meaning}
        for phase in flow.phases
        for parameter in phase.parameters
    ]
    columns = [
        Column(header="phase", cells=[row["phase"] for row in tiles], right=False, rank=1),
        Column(header="tile", cells=[row["tile"] for row in tiles], right=False),
        Column(header="least", cells=[str(row["least"]) for row in tiles]),
        Column(header="meaning", cells=[row["meaning"] for row in tiles], right=False, fold=44),
    ]
    rows = [("what it does", flow.summary), ("source", flow.source)]
    outputs.show(
        figures_table(f"dataflow {flow.name}", rows),
        fitted_table(outputs.console(), "tiles (--tile NAME=SIZE; those left out are searched)", columns),
        listed_text("assumptions", flow.assumptions),
    )
    data = {"name": flow.name, "summary": flow.summary, "source": flow.source, "tiles": tiles}
    outputs.write_json({**data, "assumptions": list(flow.assumptions)})
    outputs.write_csv(tiles)


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.10g}" if isinstance(value, int | float) else str(value)
