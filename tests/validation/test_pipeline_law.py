"""Do measured pipelines keep to the law that a batch is the first image and then one an interval? FINN on a ZCU104."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import pytest

pytestmark = pytest.mark.validation

TABLE = Path(__file__).parents[3] / "shared" / "measured" / "qutibench" / "qutibench_experimental.csv"


def _designs() -> dict[tuple[str, ...], list[tuple[int, float]]]:
    """Batches and milliseconds of each design."""
    found = defaultdict(list)
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            if "FINN" in row["hardware"] and row["lat_compute_ms"]:
                key = (row["network"], row["pruning_keep_pct"], row["datatype"])
                found[key].append((int(row["batch_or_threads"]), float(row["lat_compute_ms"])))
    return {key: sorted(rows) for key, rows in found.items()}


@pytest.mark.skipif(not TABLE.exists(), reason="the measured tables are not here")
def test_batches_of_finn_are_a_fill_and_intervals() -> None:
    """Fill and interval from the smallest and the largest batch; the others by the law. Figures of 1 or 2 digits
    (below 0.05 ms) say nothing.
    """
    errors = []
    for rows in _designs().values():
        (one, fill), (most, longest) = rows[0], rows[-1]
        interval = (longest - fill) / (most - one)
        errors += [abs(fill + (n - one) * interval - ms) / ms for n, ms in rows[1:-1] if ms >= 0.05]
    assert len(errors) == 94
    assert sum(errors) / len(errors) == pytest.approx(0.033, abs=0.001)
    assert max(errors) < 0.16
