"""``tilewright search --over joint``: number formats, fusion groups and tiles of a network together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tilewright.cli.inputs import machine_of
from tilewright.cli.progress import ProgressBar, patience
from tilewright.cli.search_bits import sensitivity_of
from tilewright.cli.search_fusion import bytes_of
from tilewright.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from tilewright.cli.search import SearchCall
    from tilewright.search.bits.joint import JointOutcome

__all__ = ["OPTIONS", "run"]

OPTIONS = frozenset({"machine", "buffer", "budget", "sensitivity"})
_FORM = re.compile(r"\s*sensitivity\s*=\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(x?)\s*")


def run(call: SearchCall) -> None:
    """Search, show the optimum beside both sequences, and write what is asked for; raises InputError."""
    table = sensitivity_of(call)
    machine = machine_of(call.needed("machine"))
    buffer = call.option("buffer")
    amount, unit = _bound(call.option("budget"))

    from tilewright.search.bits.joint import search_joint
    from tilewright.search.bits.joint_tables import JointTables
    from tilewright.workloads.network import load_network

    with patience(f"reading {call.target}"):
        stream = load_network(call.target)
    capacity = machine.buffers[0].capacity_bytes if buffer is None else bytes_of(buffer)
    tables = JointTables(source=stream, sensitivity=table, capacity_bytes=capacity)
    most = amount * tables.problem.sensitivity(tables.problem.reference) if unit else amount
    with ProgressBar() as bar:
        outcome = search_joint(tables, most, progress=bar)
    call.outputs.show(_layers(outcome), _groups(outcome), _designs(outcome))
    call.outputs.write_json(_data(outcome))
    call.outputs.write_csv(outcome.layer_rows())


def _bound(texts: Any) -> tuple[float, str]:
    text = ",".join(texts or [])
    found = _FORM.fullmatch(text)
    if not found:
        raise InputError(
            f'--budget: not of the form sensitivity=AMOUNT; given "{text}"; allowed for example sensitivity=0.5, or '
            "sensitivity=20x of the widest formats'"
        )
    return float(found[1]), found[2]


def _layers(outcome: JointOutcome) -> Table:
    from tilewright.reports.table import catalogue_table

    rows = [[row["layer"], row["formats"], row["formats_before_fusion"], row["group"]] for row in outcome.layer_rows()]
    headers = ["layer", "formats", "formats if chosen first", "group"]
    return catalogue_table(f"{outcome.tables.graph.name}: formats by layer", headers, rows)


def _groups(outcome: JointOutcome) -> Table:
    from tilewright.reports.quantity import bytes_text
    from tilewright.reports.table import catalogue_table

    rows = [
        [str(row["group"]), str(row["n_nodes"]), bytes_text(row["buffer_bytes"]), bytes_text(row["dram_bytes"]),
         f"{row['first']} to {row['last']}"]
        for row in outcome.group_rows()
        if row["n_nodes"] > 1
    ]  # fmt: skip
    room = bytes_text(outcome.tables.capacity_bytes)
    return catalogue_table(f"groups in {room}", ["group", "nodes", "buffer", "DRAM traffic", "operators"], rows)


def _designs(outcome: JointOutcome) -> Table:
    from tilewright.reports.quantity import change_text
    from tilewright.reports.table import catalogue_table

    joint = outcome.joint.dram_bytes
    rows = [
        [
            design.name,
            f"{design.dram_bytes:,}",
            change_text(design.dram_bytes / joint) if design is not outcome.joint else "",
            f"{design.sensitivity:.4g}",
            str(design.n_fused),
            "proven" if design.proven else f"at least {design.lower_bound:,}",
        ]
        for design in outcome.designs
    ]
    headers = ["chosen", "DRAM bytes", "against together", "sensitivity", "fused groups", "optimum of its kind"]
    title = f"least DRAM traffic with a sensitivity of at most {outcome.most_sensitivity:.4g}"
    return catalogue_table(title, headers, rows)


def _data(outcome: JointOutcome) -> dict[str, Any]:
    return {
        "network": outcome.tables.graph.name,
        "capacity_bytes": outcome.tables.capacity_bytes,
        "most_sensitivity": outcome.most_sensitivity,
        "saved": outcome.saved,
        "designs": outcome.rows(),
        "groups": outcome.group_rows(),
        "layers": outcome.layer_rows(),
        "assumptions": list(outcome.assumptions),
    }
