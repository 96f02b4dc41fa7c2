"""Whole networks on an H100 as library kernels, against our own measurements.

Measured: ``measured/own_gpu/h100_networks.csv`` (one CUDA graph, half precision, nothing fused) in the folder that the
environment variable TILEWRIGHT_SHARED names, else in ``shared`` beside the checkout. Three figures of convolutions were
fitted to ResNet-18 and MobileNetV2, the gap between kernels to calls of a few kernels; the rest is shown.
``pytest tests/validation/test_gpu_networks.py -s`` prints every error.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import tilewright
from tilewright.hw_models.gpu.launches import launch_figures_of
from tilewright.hw_models.load import load_machine
from tilewright.kernels.reading import read_tables
from tilewright.kernels.reading.runs import read_runs
from tilewright.search.devices.predict import network_text
from tilewright.search.devices.validate import DeviceRow, validate_device
from tilewright.search.gpu.fit_launches import fit_convolutions, fit_gap_us
from tilewright.workloads.network import load_network

pytestmark = pytest.mark.validation

SHARED = Path(os.environ.get("TILEWRIGHT_SHARED") or Path(__file__).resolve().parents[3] / "shared")
OWN = SHARED / "measured" / "own_gpu"
FITTED = ("resnet18", "mobilenet_v2")

needs_own = pytest.mark.skipif(not OWN.is_dir(), reason="our own measurements are not there")


def _rows() -> tuple[DeviceRow, ...]:
    found = validate_device(load_machine("h100"), read_runs(OWN / "h100_networks.csv").runs)
    assert not found.left_out
    return found.rows


@needs_own
def test_whole_networks_on_an_h100() -> None:
    """Mean error at most 15 % and 30 % at worst are the targets; held to what is reached, rounded up."""
    rows = _rows()
    for row in rows:
        print(f"{row.run.name}, batch {row.run.batch}: {row.run.seconds * 1e3:.3f} ms, {row.error:+.1%}")
    errors = {row.run.name: [] for row in rows}  # type: dict[str, list[float]]
    for row in rows:
        errors[row.run.name].append(abs(row.error))
    shown = np.concatenate([found for name, found in errors.items() if name not in FITTED])
    everything = np.concatenate(list(errors.values()))
    print(
        f"all {everything.mean():.1%}, worst {everything.max():.1%}; shown only {shown.mean():.1%}, {shown.max():.1%}"
    )
    assert len(everything) == 15 and len(shown) == 9
    assert everything.mean() < 0.04 and everything.max() < 0.08
    assert shown.mean() < 0.05 and shown.max() < 0.08


@needs_own
def test_validate_and_simulate_agree_to_the_last_digit() -> None:
    for row in _rows():
        assert row.prediction.seconds == tilewright.simulate_network(network_text(row.run), "h100").seconds


@needs_own
@pytest.mark.slow
def test_figures_are_those_of_the_fit() -> None:
    """As far as the calibrated families that they stand beside have not changed since."""
    machine = load_machine("h100")
    kept = launch_figures_of(machine)
    gap_us = fit_gap_us(machine, list(read_tables(OWN / "h100_own.json")))
    assert kept.gap_us == pytest.approx(gap_us, abs=0.1)
    runs = [run for run in read_runs(OWN / "h100_networks.csv").runs if run.name in FITTED]
    found = fit_convolutions(machine, [(load_network(network_text(run)), run.seconds) for run in runs], gap_us=gap_us)
    assert kept.conv.launch_us == pytest.approx(found.conv.launch_us, rel=0.15)
    assert kept.conv.step_cycles == pytest.approx(found.conv.step_cycles, rel=0.15)
    pace = found.moving["depthwise"].taps_per_cycle
    assert kept.moving["depthwise"].taps_per_cycle == pytest.approx(pace, rel=0.15)
