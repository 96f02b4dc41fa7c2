"""HELP's protocol: ten measurements on a device, Spearman over 1,000 networks without the fastest and slowest tenth."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from tilewright.search.predictor.fit import chosen, predicted
from tilewright.search.predictor.prior import known_times, priors, probable_readings
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


GPUS, CPUS = ("1080ti_1", "1080ti_32"), ("silver_4114", "silver_4210r")
PHONES = ("samsung_a50", "pixel3", "essential_ph_1", "samsung_s7")
#: Stand-ins for unlike devices: which are known, and which are asked for, of kinds that are not among them.
UNLIKE = {
    "gpus": ((*CPUS, *PHONES), ("titan_rtx_1", "2080ti_32", "titanx_1")),
    "cpus": ((*GPUS, *PHONES), ("gold_6226", "gold_6240", "silver_4210r")),
    "phones": ((*GPUS, *CPUS), ("samsung_a50", "pixel3", "raspi4")),
    "arrays": (GPUS, ("eyeriss", "fpga")),
    "none like the two known": (("eyeriss", "fpga"), ("2080ti_1", "gold_6226", "pixel3", "raspi4")),
}


@cache
def read(space: str) -> tuple[Units, np.ndarray, dict[str, np.ndarray]]:
    """Units, their times on the simulated family, latencies by device."""
    file, column = SPACES[space][:2]
    path = FOLDER / file
    if not path.is_file():
        pytest.skip(f"{path} is not there: the latencies of HELP are read from it")
    rows = list(csv.DictReader(gzip.decompress(path.read_bytes()).decode().splitlines()))
    latency = {name: np.array([float(row[name]) for row in rows]) for name in rows[0] if name not in ("index", column)}
    units = units_of_networks([f"{space}/{row[column]}" for row in rows])
    return units, units.times()[1], latency


def scores(space: str, sources: Sequence[str], targets: Sequence[str], n_pool: int) -> dict[str, float]:
    """Spearman of each target, from ten chosen networks."""
    n_known, first = SPACES[space][4:]
    units, times, latency = read(space)
    number = np.arange(len(units.counts))
    known = [np.where(number < n_known, latency[name], np.nan) for name in sources]
    made, probable = priors(units, times, known_times(units, times, known)), probable_readings(units, times, known)
    test = np.arange(first, first + 1000)
    pool = np.setdiff1d(number, test)[:4000]
    pool = pool[np.unique(np.linspace(0, len(pool) - 1, n_pool).astype(int))]
    ten = chosen(units.readings, made, pool.tolist(), 10)
    found = {}
    for target in targets:
        ours = predicted(units.readings, made, ten, latency[target][ten], probable).times[test]
        truth = latency[target][test]
        middle = np.argsort(truth, kind="stable")[100:-100]
        found[target] = round(float(spearmanr(truth[middle], ours[middle]).statistic), 3)
    print(space, found, sum(found.values()) / len(found))
    return found


@pytest.mark.parametrize("space", SPACES)
def test_ten_chosen_networks_rank_the_rest(space: str) -> None:
    found = scores(space, *SPACES[space][2:4], 4000)
    assert sum(found.values()) / len(found) >= 0.945


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", UNLIKE)
def test_devices_of_a_kind_that_is_not_among_the_known_ones(space: str, kind: str) -> None:
    found = scores(space, *UNLIKE[kind], 1500)
    assert sum(found.values()) / len(found) >= 0.85
