"""Damaged YAML files: machines, sweeps, workloads, hierarchies, calibrations."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from importlib.resources import files
from itertools import islice
from pathlib import Path

import yaml

from tests.fuzz.damage import Judge, damaged_bytes, damaged_data, damaged_text
from tilewright.hw_models.hierarchy import load_hierarchy
from tilewright.hw_models.load import load_machine, machine_text
from tilewright.search import api
from tilewright.search.sweep.space import count_points, points
from tilewright.search.sweep.spec import load_sweep
from tilewright.workloads.load import load_workload

SWEEP = """
name: damaged
machine: edge-16x16
workloads: ['attention:heads=1,seq=32,head_dim=16']
dataflows: [mas, flash2]
objective: latency
parameters:
  matrix.rows: [8, 16]
  clock_ghz: {from: 0.5, to: 1, step: 0.25}
  dram.bandwidth_gb_per_s: {from: 5, to: 40, factor: 2}
together:
  - {vector.lanes: [8, 16], buffers.l1.capacity_kib: [256, 512]}
conditions: [matrix.rows * vector.lanes <= 256, 'matrix.rows >= 8 or clock_ghz < 1']
limits: ['power_w < 5', 'area_mm2 <= 30', 'latency_ms < 1']
area: {mm2_per_pe: 0.02, mm2_per_lane: 0.05, mm2_per_kib: 0.006}
sampling: {method: sobol, n: 8, seed: 1}
"""
WORKLOAD = """
name: own
source: made up
batch: 2
heads: 8
kv_heads: 2
seq: 64
head_dim: 32
value_dim: 16
mask: banded
window_left: 16
window_right: 0
qkv_format: int8
"""
_LAYER = "attention:heads=1,seq=32,head_dim=16"
_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}, *{before}, *{before}, *{before}, *{before}, *{before}, *{before}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
_STRANGE = ["", "---\n---\n", "[" * 3000, "{a: " * 3000, "- " * 2000, _BOMB, "a: *a\n", "&a [*a]\n", "? [1]\n: 2\n"]
_STRANGE += ["\ufeff" + WORKLOAD, "%YAML 9.9\n---\na: 1\n", "!!python/name:os.system\n", "a: 0x" + "f" * 6000 + "\n"]


def run(n: int, seed: int) -> None:
    """Read ``n`` files."""
    chance, judge = random.Random(seed), Judge("yaml", seed)
    kinds = _kinds()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fuzz.yaml"
        for at in range(n):
            texts, read = chance.choice(kinds)
            data = _made(chance, chance.choice(texts))
            path.write_bytes(data)
            judge.of(at, data, lambda read=read: read(path))
    judge.end()


def _kinds() -> list[tuple[list[str], Callable[[Path], object]]]:
    machines = [machine_text(name) for name in ("edge-16x16", "eyeriss", "h100", "flat-cloud")]
    hierarchies = [one.read_text() for one in files("tilewright.hw_models").joinpath("hierarchies").iterdir()]
    return [
        (machines, _machine),
        ([SWEEP, SWEEP.replace("sampling: {method: sobol, n: 8, seed: 1}\n", "")], _sweep),
        ([WORKLOAD], lambda path: load_workload(str(path)).macs),
        (hierarchies, lambda path: load_hierarchy(str(path))),
    ]


def _machine(path: Path) -> None:
    machine = load_machine(str(path))
    if machine.gpu is None:
        api.simulate(_LAYER, machine, "flash2").to_row()


def _sweep(path: Path) -> None:
    sweep = load_sweep(path)
    count_points(sweep)
    list(islice(points(sweep), 5))


def _made(chance: random.Random, text: str) -> bytes:
    way = chance.random()
    if way < 0.02:
        return chance.choice(_STRANGE).encode()
    if way < 0.3:
        return damaged_bytes(chance, text.encode())
    if way < 0.6:
        return damaged_text(chance, text).encode("utf-8", "surrogatepass")
    changed = damaged_data(chance, yaml.safe_load(text))
    try:
        return yaml.safe_dump(changed, allow_unicode=True, sort_keys=False).encode("utf-8", "surrogatepass")
    except ValueError:  # a number that has too many digits to be written
        return text.encode()
