"""Do schedules over diffusion steps take as long as was measured? FLUX.1-dev on an NVIDIA L20, 50 steps.

Kernels are those of an A100's calibration on the L20's data sheet; nothing about time is fitted but what a cached step
waits beside its kernels, which the source's rows tell apart by how steps are chosen: one number each, the mean over the
rows with one first block and without a Taylor series. The baseline, the rows with four and eight first blocks, and all
with a Taylor series are shown. ``pytest tests/validation/test_diffusion_latency.py -s`` prints every row.
"""

from __future__ import annotations

import csv
import os
import re
from functools import lru_cache
from pathlib import Path

import pytest

from tilewright.search.runs.run import simulate_run
from tilewright.sim.runs.diffusion import DiffusionResult
from tilewright.workloads.runs.kinds.diffusion import DiffusionRun

pytestmark = pytest.mark.validation

SHARED = Path(os.environ.get("TILEWRIGHT_SHARED") or Path(__file__).resolve().parents[3] / "shared") / "systems"
N_STEPS = 50
#: How steps are chosen: by a threshold, or by count alone (a threshold that always holds).
KINDS = ("threshold", "count")


@lru_cache
def flux(first_blocks: int) -> DiffusionResult:
    """Two steps, one full and one cached; with one first block also the encoder of text and the image decoder."""
    ends = {"before": ("t5-xxl-encoder:seq=512",), "after": ("vae-decoder:image=1024",)} if first_blocks == 1 else {}
    run = DiffusionRun(
        network="flux-dev",
        steps=2,
        schedule=f"dbcache:F={first_blocks},W=1",
        weights="bf16",
        activations="bf16",
        **ends,
    )
    found = simulate_run(run, "l20")
    assert isinstance(found, DiffusionResult)
    return found


def seconds(first_blocks: int, n_full: float, waits_s: float) -> float:
    """Of an image; cached steps with other numbers of first blocks lie on the line through one and eight."""
    full, least = (row.seconds for row in flux(1).steps)
    each = (flux(8).steps[1].seconds - least) / 7
    once = flux(1).seconds - full - least
    return once + n_full * full + (N_STEPS - n_full) * (least + (first_blocks - 1) * each + waits_s)


def kind_of(config: str) -> str:
    return "count" if re.search(r"I\dM0MC\d+_R0.8", config) else "threshold"


def rows() -> list[dict[str, str]]:
    path = SHARED / "diffusion_dbcache_flux_l20.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def waits(kind: str, table: list[dict[str, str]]) -> float:
    """Seconds that a cached step waits, in the mean over the fitted rows."""
    found = []
    for row in table:
        if row["config"].startswith("F1B0") and row["config"].endswith("T0O0") and kind_of(row["config"]) == kind:
            n_full = float(row["equivalent_full_steps_derived"])
            found.append((float(row["latency_s_L20"]) - seconds(1, n_full, 0.0)) / (N_STEPS - n_full))
    if not found:
        pytest.skip(f"no rows of {kind} to take the wait from")
    return sum(found) / len(found)


def test_flux_on_an_l20_within_a_twentieth() -> None:
    table = rows()
    wait = {kind: waits(kind, table) for kind in KINDS}
    print(f"a cached step waits {1e3 * wait['threshold']:.1f} ms (threshold), {1e3 * wait['count']:.1f} ms (count)")
    worst = 0.0
    for row in table:
        config, measured = row["config"], float(row["latency_s_L20"])
        if config.startswith("baseline"):
            ours = seconds(1, N_STEPS, 0.0)
        else:
            n_full = float(row["equivalent_full_steps_derived"])
            ours = seconds(int(row["F_first_blocks"]), n_full, wait[kind_of(config)])
        worst = max(worst, abs(ours / measured - 1))
        print(f"{config:28s} {ours:7.2f} s {measured:7.2f} s {ours / measured - 1:+.1%}")
        assert ours == pytest.approx(measured, rel=0.05), config
    print(f"worst {worst:.1%}")
