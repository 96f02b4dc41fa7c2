"""Damaged inputs end in a value or one sentence: a fixed few in the quick suite, many with ``make fuzz N=...``."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

import pytest

#: Inputs of each target in the quick suite: about a second of processor time.
FEW = {"yaml": 40, "json": 200, "sqlite": 12, "csv": 150, "cli": 25, "onnx": 40}
NEEDS = {"onnx": "onnx"}
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in Path(__file__).parent.glob("fuzz_*.py"))
#: ``make fuzz N=100000`` makes so many in all.
N_IN_ALL = int(os.environ.get("TILEWRIGHT_FUZZ") or 0)
SEED = int(os.environ.get("TILEWRIGHT_FUZZ_SEED") or 1)


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_inputs_end_well(target: str) -> None:
    if target in NEEDS:
        pytest.importorskip(NEEDS[target])
    n = N_IN_ALL // len(TARGETS) if N_IN_ALL else FEW.get(target, 40)
    import_module(f"tests.fuzz.fuzz_{target}").run(n, SEED)
