"""Operators of vision papers against their published tables (shared/systems).

``pytest tests/validation/test_operators.py -s`` prints every figure beside the published one.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from tilewright.workloads.network import load_network

SHARED = Path(os.environ.get("TILEWRIGHT_SHARED") or Path(__file__).resolve().parents[3] / "shared") / "systems"


def rows(name: str) -> list[dict[str, str]]:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not there: the published figures are read from it")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def show(what: str, predicted: float, published: float) -> float:
    error = predicted / published - 1
    print(f"{what:44} {predicted:12.4g} {published:12.4g} {error:+8.1%}")
    return abs(error)


def test_shvit_has_its_published_sizes() -> None:
    """Within 2 %: parameters and multiply-adds (its table calls these FLOPs)."""
    for row in rows("vision_shvit.csv"):
        stream = load_network(f"{row['model'].lower()}:image={row['resolution']}")
        assert show(f"{row['model']} parameters", (stream.n_parameters or 0) / 1e6, float(row["params_M"])) < 0.02
        assert show(f"{row['model']} multiply-adds", stream.macs / 1e6, float(row["flops_M"])) < 0.02


def codenet(row: dict[str, str]) -> str:
    """The network of a row: those of 2.9 MB are twice as wide."""
    size = "1x" if float(row["size_MB"]) < 1 else "2x"
    return f"codenet-{size}{'' if row['downsample'] == 'Stride4' else '-pooled'}:image={row['resolution']}"


def test_codenet_has_its_published_sizes() -> None:
    """Within 3 %: weights of 4 bits in units of 2^20 bytes, and multiply-adds, which are published to 10 M."""
    for row in rows("vision_codenet_ultra96.csv"):
        if not row["detector"].startswith("CoDeNet"):
            continue
        stream = load_network(codenet(row))
        weights = stream.n_weights / 2 / 2**20
        assert show(f"{row['detector']} MB", weights, float(row["size_MB"])) < 0.03
        published = float(row["macs_G"])
        show(f"{row['detector']} G multiply-adds", stream.macs / 1e9, published)
        assert stream.macs / 1e9 == pytest.approx(published, rel=0.03, abs=0.005 + 0.03 * published)
