"""HELP's protocol: ten measurements on a device, Spearman over 1,000 networks without the fastest and slowest tenth."""

from __future__ import annotations

import csv
import gzip
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from tilewright.search.predictor.fit import chosen, predicted
from tilewright.search.predictor.prior import Prior, known_times, priors
from tilewright.search.predictor.units import Units, units_of_networks

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "systems"
SHARED_SOURCES = ("silver_4114", "silver_4210r", "samsung_a50", "pixel3", "essential_ph_1", "samsung_s7")
#: Of each space: file, column of operations, sources, targets, networks known on sources, first test network.
SPACES = {
    "nasbench-201": (
        "help_nasbench201_latency_ms.csv.gz",
        "ops6",
        ("1080ti_1", "1080ti_32", "1080ti_256", *SHARED_SOURCES),
        ("titan_rtx_256", "gold_6226", "fpga", "pixel2", "raspi4", "eyeriss"),
        900,
        900,
    ),
    "fbnet": (
        "help_fbnet_latency_ms.csv.gz",
        "ops22",
        ("1080ti_1", "1080ti_32", "1080ti_64", *SHARED_SOURCES),
        ("raspi4", "eyeriss", "fpga"),
        4000,
        4000,
    ),
}


@cache
def prepared(space: str) -> tuple[Units, list[Prior], list[int], dict[str, np.ndarray], np.ndarray]:
    file, column, sources, targets, n_known, first = SPACES[space]
    path = FOLDER / file
    if not path.is_file():
        pytest.skip(f"{path} is not there: the latencies of HELP are read from it")
    rows = list(csv.DictReader(gzip.decompress(path.read_bytes()).decode().splitlines()))
    latency = {name: np.array([float(row[name]) for row in rows]) for name in {*sources, *targets}}
    units = units_of_networks([f"{space}/{row[column]}" for row in rows])
    _, times = units.times()
    number = np.arange(len(rows))
    known = [np.where(number < n_known, latency[name], np.nan) for name in sources]
    made = priors(units, times, known_times(units, times, known))
    test = np.arange(first, first + 1000)
    pool = np.setdiff1d(number, test)[:4000].tolist()
    return units, made, chosen(units.counts, made, pool, 10), latency, test


@pytest.mark.parametrize(("space", "wanted"), [("nasbench-201", 0.945), ("fbnet", 0.945)])
def test_ten_chosen_networks_rank_the_rest(space: str, wanted: float) -> None:
    units, made, ten, latency, test = prepared(space)
    found = {}
    for target in SPACES[space][3]:
        ours = predicted(units.counts, made, ten, latency[target][ten]).times[test]
        truth = latency[target][test]
        middle = np.argsort(truth, kind="stable")[100:-100]
        found[target] = round(float(spearmanr(truth[middle], ours[middle]).statistic), 3)
    print(space, found, sum(found.values()) / len(found))
    assert sum(found.values()) / len(found) >= wanted
