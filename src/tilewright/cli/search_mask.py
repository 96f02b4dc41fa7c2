"""``tilewright search --over mask``: the cheapest mask for each head that keeps enough of its attention mass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tilewright.cli.inputs import machine_of
from tilewright.cli.search_space import SPACES, SearchCall, SearchOptions, SearchSpace
from tilewright.errors import InputError

if TYPE_CHECKING:
    from tilewright.cli.outputs import Outputs
    from tilewright.search.head_masks import HeadMasks

__all__ = ["MaskOptions", "run"]


def _budget(texts: Sequence[str]) -> tuple[bool, float]:
    """Whether the mean counts, and the mass to keep: ``0.95`` or ``mean=0.95``."""
    allowed = "a share of the attention mass for every head (0.95), or for their mean (mean=0.95)"
    if len(texts) != 1:
        raise InputError(f"--budget: given {len(texts)} times; allowed once: {allowed}")
    name, equals, number = texts[0].rpartition("=")
    try:
        mass = float(number)
    except ValueError:
        mass = -1.0
    if not 0 <= mass <= 1 or (equals and name != "mean"):
        raise InputError(f'--budget: given "{texts[0]}"; allowed {allowed}')
    return bool(equals), mass


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskOptions(SearchOptions):
    """Options of ``--over mask``. ``sensitivity``: the file of kept mass by head and mask."""

    sensitivity: str
    budget: tuple[bool, float]
    dataflow: str | None = None


def run(call: SearchCall[MaskOptions]) -> None:
    """Choose, show and write; raises InputError."""
    from tilewright.cli.density import DensityCall, best_run
    from tilewright.cli.inputs import workloads_of
    from tilewright.search.head_masks import HEADS_ASSUMPTION, choose_masks, read_statistics
    from tilewright.workloads.attention import AttentionLayer

    options = call.options
    machine = machine_of(options.machine, options.set)
    (layer,) = workloads_of([call.target], machine)
    if not isinstance(layer, AttentionLayer):
        raise InputError(f"--over mask: is for attention layers; given {layer.name}; allowed an attention layer")
    mean, mass = options.budget
    asked = DensityCall(
        texts=(call.target,), machines=(machine,), densities=(), objective="latency", method=None, seed=0,
        dataflows=[options.dataflow] if options.dataflow else None,
    )  # fmt: skip
    statistics = read_statistics(Path(options.sensitivity), layer.query_heads)
    found = choose_masks(layer, statistics, mass, lambda one: best_run(one, machine, asked), mean=mean)
    _show(call.outputs, found, f"{layer.name} on {machine.name}")

    from tilewright.reports.origin import Origin, layer_facts

    origin = Origin(machines=(machine,), workloads=(layer_facts(layer),), facts={"budget": found.budget})
    rows = found.rows()
    data = {"cycles": found.cycles, "dense_cycles": found.dense_cycles, "mean_mass": found.mean_mass, "proven": True}
    call.outputs.write_json({**data, "heads": rows, "assumptions": [HEADS_ASSUMPTION]}, origin)
    call.outputs.write_csv(rows, origin)


def _show(outputs: Outputs, found: HeadMasks, name: str) -> None:
    if not outputs.speaks:
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{name}: masks by head", box=None, header_style="bold")
    for column in ("head", "mask", "mass", "cycles", "dataflow", "tried"):
        table.add_column(column, justify="left" if column in ("mask", "dataflow") else "right")
    for one in found.choices:
        row = (f"{one.mass:.4g}", f"{one.result.cycles:,}", one.result.dataflow, str(one.n_tried))
        table.add_row(str(one.head), one.mask, *row)
    last = Text(
        f"{found.cycles:,} cycles, {found.dense_cycles / found.cycles:.2f}x as fast as dense heads; keeps "
        f"{found.mean_mass:.4g} of the mass\nproven: no other choice of these masks that keeps {found.budget} "
        "takes fewer cycles"
    )
    outputs.show(table, last)


SPACES.register("mask", SearchSpace(name="mask", options=MaskOptions, run=run, budget=_budget), rank=6)
