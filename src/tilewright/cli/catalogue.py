"""``tilewright list`` and ``tilewright show``: what there is to choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tilewright.cli.inputs import machine_of
from tilewright.cli.options import CsvOption, JsonOption
from tilewright.cli.outputs import Outputs
from tilewright.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from rich.table import Table

    from tilewright.workloads.attention import AttentionLayer

__all__ = ["list_names", "show"]

_KINDS = ("machines", "workloads", "networks", "dataflows")

KindArgument = Annotated[
    str, typer.Argument(metavar="WHAT", help=f"{', '.join(_KINDS[:-1])} or {_KINDS[-1]}.", show_default=False)
]


def list_names(kind: KindArgument, json: JsonOption = None, csv: CsvOption = None) -> None:
    """List the built-in machines, workloads (attention layers), whole networks, or dataflows."""
    outputs = Outputs(json=json, csv=csv)
    outputs.check()
    if kind not in _KINDS:
        raise InputError(f'unknown list; given "{kind}"; allowed {", ".join(_KINDS)}{did_you_mean(kind, _KINDS)}')
    rows = {"machines": _machines, "workloads": _workloads, "networks": _networks, "dataflows": _dataflows}[kind]()
    outputs.show(_list_table(outputs, kind, rows))
    outputs.write_json({kind: rows})
    outputs.write_csv(rows)


def show(
    machine: Annotated[
        str, typer.Argument(metavar="MACHINE", help="A built-in machine or a YAML file.", show_default=False)
    ],
    json: JsonOption = None,
    csv: CsvOption = None,
) -> None:
    """Show every figure of a machine with its unit, the kind of its source, and the source."""
    outputs = Outputs(json=json, csv=csv)
    outputs.check(machine)
    spec = machine_of(machine, for_engine=False)

    from rich.text import Text

    from tilewright.hw_models.describe import describe
    from tilewright.reports.table import Column, fitted_table, listed_text

    rows = describe(spec)
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
        listed_text("assumptions", spec.assumptions),
    )
    figures = [
        {"figure": row.path, "value": row.value, "unit": row.unit, "kind": row.kind, "source": row.source}
        for row in rows
    ]
    data = {"name": spec.name, "description": spec.description, "figures": figures}

    from tilewright.reports.origin import Origin

    origin = Origin(machines=(spec,))
    outputs.write_json({**data, "assumptions": list(spec.assumptions)}, origin)
    outputs.write_csv(figures, origin)


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.10g}" if isinstance(value, int | float) else str(value)


def _list_table(outputs: Outputs, kind: str, rows: list[dict[str, Any]]) -> Table:
    """What fits the terminal of ``rows``; long texts go last, and first of all when room is short."""
    from tilewright.reports.quantity import count_text
    from tilewright.reports.table import Column, catalogue_table, fitted_table

    if kind == "machines":
        return catalogue_table(kind, ["name", "description"], [[row["name"], row["description"]] for row in rows])
    if kind == "dataflows":
        cells = [[row["name"], f"{row['summary']} (tiles: {row['tiles']})"] for row in rows]
        return catalogue_table(kind, ["name", "what it does"], cells)
    if kind == "networks":
        columns = [
            Column(header="name", cells=[row["name"] for row in rows], right=False),
            Column(header="multiply-adds", cells=[count_text(row["macs"]) for row in rows]),
            Column(header="weights", cells=[count_text(row["n_weights"]) for row in rows]),
            Column(header="operators", cells=[f"{row['n_operators']:,}" for row in rows]),
            Column(header="options", cells=[_sizes_of(row["options"]) for row in rows], right=False, fold=20),
            Column(header="source", cells=[row["source"] for row in rows], right=False, rank=2),
        ]
        return fitted_table(outputs.console(), kind, columns)
    columns = [
        Column(
            header=name,
            cells=[f"{row[name]:,}" if isinstance(row[name], int) else row[name] for row in rows],
            right=isinstance(rows[0][name], int),
            rank=1 if name == "source" else 0,
        )
        for name in rows[0]
    ]
    return fitted_table(outputs.console(), kind, columns)


def _machines() -> list[dict[str, Any]]:
    from tilewright.hw_models.load import load_machine, machine_names

    return [
        {
            "name": m.name,
            "matrix": m.matrix.size_text.replace(" ", ""),
            "vector_lanes": m.vector.lanes,
            "cores": m.n_cores,
            "clock_ghz": m.clock_ghz,
            "dram_gb_per_s": m.dram.bandwidth_gb_per_s,
            "description": m.description,
        }
        for m in map(load_machine, machine_names())
    ]


def _workloads() -> list[dict[str, Any]]:
    from tilewright.workloads.load import load_workload, workload_names, workload_source

    return [_workload_row(load_workload(name), workload_source(name)) for name in workload_names()]


def _workload_row(layer: AttentionLayer, source: str) -> dict[str, Any]:
    return {
        "name": layer.name,
        "batch": layer.batch,
        "heads": layer.query_heads,
        "kv_heads": layer.kv_heads,
        "queries": layer.query_len,
        "keys": layer.key_len,
        "width": layer.head_dim,
        "mask": layer.mask,
        "source": source,
    }


def _sizes_of(options: str) -> str:
    """The options without the number formats, which are the same for all."""
    formats = ("weights=", "activations=", "cache=")
    return " ".join(option for option in options.split() if not option.startswith(formats))


def _networks() -> list[dict[str, Any]]:
    from tilewright.workloads.network import load_network, network_names, network_options, network_source

    rows = []
    for name in network_names():
        stream = load_network(name)
        options = " ".join(f"{key}={value}" for key, value in network_options(name).items())
        rows.append(
            {
                "name": name,
                "macs": stream.macs,
                "n_weights": stream.n_weights,
                "n_operators": len(stream.operators),
                "options": options,
                "source": network_source(name),
            }
        )
    return rows


def _dataflows() -> list[dict[str, Any]]:
    import tilewright.search.api as api

    return [
        {
            "name": name,
            "tiles": " ".join(api.dataflow_parameters(name)),
            "summary": api.dataflow_summary(name),
        }
        for name in api.dataflow_names()
    ]
