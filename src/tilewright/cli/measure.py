"""``tilewright measure``: kernels timed on a GPU into a file, from where it left off, within a budget of time."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import typer

from tilewright.cli.outputs import note
from tilewright.cli.progress import ProgressBar
from tilewright.errors import InputError, unknown

__all__ = ["measure"]

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}


def measure(
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE.json", help="Keeps the results.", show_default=False)
    ],
    suite: Annotated[
        str,
        typer.Option(
            "--suite",
            metavar="NAMES",
            help="attention, gemm, fusion, elementwise, unseen, energy, networks, tiny, or a plug-in's; with commas.",
        ),
    ] = "attention,gemm,fusion,elementwise",
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="cuda; interpreter only tries the kernels on the CPU.")
    ] = "cuda",
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="Stop after so long, as 8m or 90s.", show_default="no limit"),
    ] = None,
) -> None:
    """Time attention, products and fused groups on a GPU, for `tilewright validate`.

    Each result is kept at once; the same command goes on with what is missing. Clocks and power are read, never set.
    """
    if device not in ("cuda", "interpreter"):
        raise unknown("device", device, ("cuda", "interpreter"), place="--device")
    seconds = None if budget is None else _seconds(budget)

    from tilewright.kernels.measure import MeasureProgress
    from tilewright.kernels.measure import measure as run
    from tilewright.kernels.suite import configurations

    wanted = configurations([name.strip() for name in suite.split(",") if name.strip()])
    if not wanted:
        raise InputError("--suite: no suite; allowed for example attention,gemm")
    given_up, reason = 0, ""
    with ProgressBar() as bar:

        def tell(progress: MeasureProgress) -> None:
            nonlocal given_up, reason
            given_up, reason = progress.given_up, progress.reason
            bar(progress.done, progress.total, progress.what)

        kind: Literal["cuda", "interpreter"] = "cuda" if device == "cuda" else "interpreter"
        file = run(wanted, output, kind, budget_s=seconds, progress=tell)
    keys = {each.key for each in wanted}
    n_done = sum(each.key in keys for each in file.measurements)
    print(f"{output}: {n_done:,} of {len(wanted):,} configurations, {file.device.name}")
    if n_done < len(wanted):
        note(f"{len(wanted) - n_done - given_up:,} are left; the same command goes on ({given_up:,} do not run here)")
        if reason:
            note(f"the last that does not run: {reason}")


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    if match is None or float(match[1]) <= 0:
        raise InputError(f'--budget: not a time; given "{text}"; allowed for example 90s, 8m or 1h')
    return float(match[1]) * _UNITS_S[match[2]]
