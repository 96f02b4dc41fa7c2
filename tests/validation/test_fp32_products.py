"""Products in real FP32 (TF32 off) against NeuSight's measurements with PyTorch 2.1 (shared/measured/neusight).

Nothing is fitted to them: the family ``fp32`` has the parameters that bf16 products of the device were calibrated to,
operands of four bytes, and a multiply-add a CUDA lane and cycle.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from tilewright.hw_models.load import load_machine
from tilewright.search.gpu.library import LibraryOfMachine
from tilewright.search.gpu.stand_in import parameters_of
from tilewright.sim.gpu.families import GEMM_FAMILIES
from tilewright.sim.gpu.gemm import GemmShapes, gemm_forecast

SHARED = Path(os.environ.get("TILEWRIGHT_SHARED") or Path(__file__).resolve().parents[3] / "shared")
LINEAR = SHARED / "measured" / "neusight" / "kernels" / "linear.csv"


@pytest.mark.parametrize(("device", "machine"), [("NVIDIA A100-PCIE-40GB", "a100"), ("NVIDIA H100 80GB HBM3", "h100")])
def test_products_without_tf32(device: str, machine: str) -> None:
    """Within 15 %, mean of 1,040 linear layers of 0.1 ms to seconds; TF32 would be far too fast."""
    if not LINEAR.is_file():
        pytest.skip(f"{LINEAR} is not there: the measured times are read from it")
    with LINEAR.open(newline="") as file:
        table = [row for row in csv.DictReader(file) if row["device"] == device]
    m, n, k = (np.array([int(float(row[name])) for row in table]) for name in "MNK")
    batch = np.array([int(float(row["B"])) for row in table])
    measured = np.array([float(row["latency_ms"]) for row in table]) / 1e3
    library = LibraryOfMachine(load_machine(machine))
    mean = {}
    for name in ("fp32", "tf32"):
        parameters = parameters_of(library.device, library.calibration, "gemm", name).parameters
        shapes = GemmShapes(m=m * batch, n=n, k=k)
        found = gemm_forecast(library.device, GEMM_FAMILIES.get(name), parameters, shapes)  # type: ignore[arg-type]
        errors = found.seconds / measured - 1
        mean[name] = float(np.abs(errors).mean())
        print(f"{device} as {name}: {len(table)} rows, mean {mean[name]:.1%}, median {np.median(errors):+.1%}")
    assert mean["fp32"] < 0.15 < 0.8 < mean["tf32"]
