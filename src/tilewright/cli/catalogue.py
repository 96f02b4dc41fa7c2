"""``tilewright list``: what there is to choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tilewright.cli.complete import list_kinds
from tilewright.cli.options import CsvOption, JsonOption
from tilewright.cli.outputs import Outputs
from tilewright.errors import unknown

if TYPE_CHECKING:
    from rich.table import Table

    from tilewright.workloads.attention import AttentionLayer

__all__ = ["list_names"]

_KINDS = ("machines", "workloads", "operators", "networks", "dataflows", "engines", "schedules", "models", "memories")

KindArgument = Annotated[
    str,
    typer.Argument(
        metavar="WHAT",
        help=f"{', '.join(_KINDS[:-1])} or {_KINDS[-1]}.",
        show_default=False,
        autocompletion=list_kinds,
    ),
]


def list_names(kind: KindArgument, json: JsonOption = None, csv: CsvOption = None) -> None:
    """List the built-in machines, workloads (attention layers), operators, whole networks, dataflows, quantised
    engines, schedules of diffusion steps, language models (of decode), or memories that compute.
    """
    outputs = Outputs(json=json, csv=csv)
    outputs.check()
    if kind not in _KINDS:
        raise unknown("list", kind, _KINDS)
    makers = {
        "machines": _machines,
        "workloads": _workloads,
        "operators": _operators,
        "networks": _networks,
        "dataflows": _dataflows,
        "engines": _engines,
        "schedules": _schedules,
        "models": _models,
        "memories": _memories,
    }
    rows = makers[kind]()
    outputs.show(_list_table(outputs, kind, rows))
    outputs.write_json({kind: rows})
    outputs.write_csv(rows)


def _list_table(outputs: Outputs, kind: str, rows: list[dict[str, Any]]) -> Table:
    """What fits the terminal of ``rows``; long texts go last, and first of all when room is short."""
    from tilewright.reports.quantity import count_text
    from tilewright.reports.table import Column, catalogue_table, fitted_table

    if kind in ("machines", "memories"):
        return catalogue_table(kind, ["name", "description"], [[row["name"], row["description"]] for row in rows])
    if kind == "dataflows":
        cells = [[row["name"], row["runs"], f"{row['summary']} (tiles: {row['tiles']})"] for row in rows]
        return catalogue_table(kind, ["name", "runs", "what it does"], cells)
    if kind == "engines":
        cells = [[row["name"], row["field"], row["formats"], row["options"]] for row in rows]
        return catalogue_table(kind, ["name", "field", "weights x activations", "options"], cells)
    if kind == "schedules":
        cells = [[row["name"], row["options"], f"{row['summary']} ({row['source']})"] for row in rows]
        return catalogue_table(kind, ["name", "options", "which blocks run when"], cells)
    if kind == "operators":
        columns = [
            Column(header="example", cells=[row["example"] for row in rows], right=False),
            Column(header="what it is", cells=[row["summary"] for row in rows], right=False, fold=24, rank=1),
            Column(header="keys (* needed)", cells=[row["keys"] for row in rows], right=False, fold=34),
        ]
        return fitted_table(outputs.console(), kind, columns)
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


def _memories() -> list[dict[str, Any]]:
    from tilewright.hw_models.pim import load_pim, pim_names

    return [
        {
            "name": pim.name,
            "channels": pim.organisation.n_channels,
            "banks": pim.organisation.n_banks,
            "operand_bits": pim.organisation.operand_bits,
            "host": pim.commander.kind,
            "host_gb_per_s": pim.commander.bandwidth_gb_per_s,
            "description": pim.description,
        }
        for pim in map(load_pim, pim_names())
    ]


def _workloads() -> list[dict[str, Any]]:
    from tilewright.workloads.load import load_workload, workload_names, workload_source

    return [_workload_row(load_workload(name), workload_source(name)) for name in workload_names()]


def _schedules() -> list[dict[str, Any]]:
    from tilewright.workloads.diffusion.kind import SCHEDULES

    return [
        {
            "name": name,
            "options": " ".join(f"{key}={value}" for key, value in kind.options.items()),
            "summary": kind.summary,
            "source": kind.source or "every step as it is",
        }
        for name, kind in SCHEDULES.items()
    ]


def _operators() -> list[dict[str, Any]]:
    from tilewright.workloads.single_operator import operator_texts

    return [
        {
            "name": name,
            "example": entry.example,
            "summary": kind.word,
            "keys": " ".join(f"{key}*" if key in entry.needed else key for key in entry.keys),
        }
        for name, (kind, entry) in operator_texts().items()
    ]


def _engines() -> list[dict[str, Any]]:
    from tilewright.hw_models.quantised.catalogue import ATTENTION_ENGINES, ENGINES
    from tilewright.hw_models.quantised.part import has_effect, option_names

    products = [
        {
            "name": name,
            "field": "matrix.engine",
            "formats": engine.pair,
            "options": " ".join(option_names(engine)),
            "source": engine.source,
        }
        for name, engine in ENGINES.items()
        if has_effect(engine)
    ]
    attentions = [
        {
            "name": name,
            "field": "matrix.attention_engine",
            "formats": f"Q, K, V in {engine.wide}; multiplied in {engine.score_multiply}, {engine.value_multiply}",
            "options": "",
            "source": engine.source,
        }
        for name, engine in ATTENTION_ENGINES.items()
    ]
    return [*products, *attentions]


def _models() -> list[dict[str, Any]]:
    from tilewright.workloads.language.catalogue import language_model, language_model_names

    return [
        {
            "name": model.name,
            "weights": f"{model.n_parameters / 1e9:,.4g} G",
            "of_a_token": f"{model.n_active / 1e9:,.4g} G",
            "layers": model.layers,
            "width": model.hidden,
            "experts": f"{model.top_k} of {model.experts}" if model.experts else "",
            "cache_bytes_a_token": model.n_cached_layers * model.cache_values * 2,
            "source": model.source,
        }
        for model in map(language_model, language_model_names())
    ]


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
    from tilewright.sim.lowering.mapping import DATAFLOWS

    return [
        {
            "name": name,
            "runs": flow.operator,
            "tiles": " ".join(parameter.name for parameter in flow.parameters),
            "summary": flow.summary,
        }
        for name, flow in DATAFLOWS.items()
    ]
