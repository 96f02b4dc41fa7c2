"""Tables of a pipeline for the terminal: its stages, and what one image, a batch and the steady state take."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tilewright.reports.quantity import bytes_text, cycles_text, energy_text, percent_text, ratio_text, seconds_text
from tilewright.reports.table import Column, figures_table, fitted_table
from tilewright.sim.pipeline_result import PipelineResult, StageResult

__all__ = ["pipeline_figures", "pipeline_table", "stages_table", "steady_text"]


def stages_table(console: Console, result: PipelineResult) -> Table:
    """A row per stage, in order."""
    stages, numbers = result.stages, range(len(result.stages))
    columns = [
        Column(header="stage", cells=[_number(result, at) for at in numbers]),
        Column(header="from", cells=[stage.first for stage in stages], right=False, fold=20, rank=2),
        Column(header="to", cells=[stage.last for stage in stages], right=False, fold=20, rank=1),
        Column(header="layers", cells=[str(stage.n_jobs) for stage in stages], rank=3),
        Column(header="on", cells=[stage.units for stage in stages], right=False),
        Column(header="alone", cells=[cycles_text(stage.alone_cycles) for stage in stages]),
        Column(header="at work", cells=[cycles_text(round(stage.work_cycles)) for stage in stages]),
        Column(header="busy", cells=[percent_text(result.busy(at)) for at in numbers]),
        Column(header="/ bound", cells=[f"{_over_bound(stage):.3f}" for stage in stages], rank=5),
        Column(header="DRAM bytes", cells=[bytes_text(stage.dram_bytes) for stage in stages]),
        Column(header="weights", cells=[bytes_text(stage.weight_bytes) for stage in stages], rank=6),
        Column(header="of it kept", cells=[_kept(stage) for stage in stages], rank=4),
    ]
    caption = (
        "cycles of one image: alone on the chip, and in the steady state with all stages at work; * is the longest; "
        "bound: what the stage's units must do"
    )
    return fitted_table(console, f"stages of {result.network} on {result.machine}", columns, caption=caption)


def _number(result: PipelineResult, at: int) -> str:
    return f"{at + 1}{' *' if at == result.bottleneck else ''}"


def _over_bound(stage: StageResult) -> float:
    return stage.alone_cycles / max(1, stage.bound_cycles)


def _kept(stage: StageResult) -> str:
    return f"{bytes_text(stage.kept_weight_bytes)} in {stage.memory}" if stage.kept_weight_bytes else ""


def pipeline_table(result: PipelineResult) -> Table:
    """What the pipeline takes and gives."""
    return figures_table(f"{result.network} as a pipeline", pipeline_figures(result))


def pipeline_figures(result: PipelineResult) -> list[tuple[str, str]]:
    """The same as pairs of what it is and how much."""
    second = result.seconds_of_a_cycle
    interval = float(result.interval_cycles)
    return [
        ("one image alone", f"{cycles_text(result.fill_cycles)} cycles, {seconds_text(result.fill_cycles * second)}"),
        (
            "interval",
            f"{cycles_text(round(interval))} cycles, {seconds_text(interval * second)}; {steady_text(result)}",
        ),
        ("throughput", f"{result.throughput_per_s:,.1f} images a second"),
        (
            "latency of an image",
            f"{cycles_text(round(result.steady_latency_cycles))} cycles, "
            f"{seconds_text(result.steady_latency_cycles * second)}, in the steady state",
        ),
        (f"{result.n_images:,} images", f"{cycles_text(result.cycles)} cycles, {seconds_text(result.seconds)}"),
        (
            "if stages did not feel each other",
            f"{cycles_text(round(result.independent_cycles))} cycles; shared channels and full maps make "
            f"{_signed(result.contention_cycles / max(1, result.independent_cycles))}",
        ),
        (
            "layer after layer on all cores",
            _in_turn(result),
        ),
        (
            "bound",
            f"{cycles_text(result.bound_cycles)} cycles; no partition is better by more than "
            f"{percent_text(result.gap)}",
        ),
        ("interval, as reckoned", _partition(result)),
        ("partition", result.searched),
        ("handed over", _handed_over(result)),
        (
            "DRAM bytes an image",
            bytes_text(result.dram_bytes // result.n_images)
            + (
                ""
                if result.in_turn_dram_bytes is None
                else f"; layer after layer {bytes_text(result.in_turn_dram_bytes)}"
            ),
        ),
        ("energy an image", energy_text(result.energy_pj / result.n_images)),
        ("matrix units busy", percent_text(result.matrix_utilization)),
    ]


def _handed_over(result: PipelineResult) -> str:
    """What passes between stages, how, and what room that takes."""
    handed = result.handed_over
    if not handed:
        return "nothing"
    on_chip = sum(one.memory != "dram" for one in handed)
    text = f"{len(handed):,} map{'s' if len(handed) > 1 else ''} between stages, {on_chip:,} on chip"
    room = bytes_text(result.handed_over_bytes)
    if result.hand_over != "rows":
        return f"{text}; whole, in buffers of {room}"
    lines = sum(one.line_rows is not None and one.line_rows < (one.map_rows or 0) * one.n_maps for one in handed)
    return f"{text}; by rows, {lines:,} through line buffers of less than the maps, in buffers of {room}"


def _in_turn(result: PipelineResult) -> str:
    if result.in_turn_cycles is None or result.speedup is None:
        return "the cores cannot do all layers"
    own = cycles_text(result.in_turn_cycles)
    return f"{own} cycles an image: the pipeline has {ratio_text(result.speedup)} the throughput"


def _bytes_in_turn(result: PipelineResult) -> str:
    n_bytes = result.in_turn_dram_bytes
    return "" if n_bytes is None else f"; layer after layer {bytes_text(n_bytes)}"


def steady_text(result: PipelineResult) -> str:
    """How the interval is known."""
    if result.period_images is None:
        return "the mean of the images watched, which did not repeat exactly"
    if result.period_images == 1:
        return "exact: every image after the first ones goes the same way"
    return f"exact: every {result.period_images} images the whole chip is in the same state"


def _signed(share: float) -> str:
    return f"{share:+.1%}".replace("%", " %")


def _partition(result: PipelineResult) -> str:
    text = f"{cycles_text(result.partition_cycles)} cycles"
    if result.guess_cycles is not None:
        text += f"; equal shares {cycles_text(result.guess_cycles)}"
    return text
