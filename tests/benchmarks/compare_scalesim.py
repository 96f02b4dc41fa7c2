"""ResNet-50 layer by layer in SCALE-Sim v3 and in Tilewright, timed in one run.

    python tests/benchmarks/compare_scalesim.py [--environment FOLDER]     # about five minutes, all of it SCALE-Sim's

Both take the same 54 products on the same 128x128 weight-stationary array. SCALE-Sim (installed into an environment
of its own) gives the compute cycles of each. Tilewright gives the same compute cycles, and beyond them the exact run
of each layer with DRAM, buffers and vector unit: its time below is that of lowering and running all layers.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECORDER = Path(__file__).resolve().parents[1] / "golden" / "record_scalesim.py"


def recorder():  # type: ignore[no-untyped-def]
    """The module that knows how to run SCALE-Sim."""
    spec = importlib.util.spec_from_file_location("record_scalesim", RECORDER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_scalesim(folder: Path) -> None:
    """In SCALE-Sim's own interpreter: cycles and seconds of every layer, as JSON."""
    record = recorder()
    rows = []
    for name, m, k, n in record.resnet50():
        begun = time.perf_counter()
        (row,) = record.simulate(*record.RESNET_ARRAY, record.RESNET_DATAFLOW, [(m, k, n)], folder)
        rows.append({"layer": name, "m": m, "k": k, "n": n, **row, "seconds": time.perf_counter() - begun})
    (folder / "rows.json").write_text(json.dumps(rows))


def run_tilewright(rows: list[dict[str, int]]) -> tuple[float, int]:
    """(seconds to lower and run all layers exactly, cycles); checks the compute cycles on the way."""
    from tilewright.hw_models.load import load_machine
    from tilewright.hw_models.matrix_unit import product
    from tilewright.sim.engine.run import warm_up
    from tilewright.sim.lowering.evaluation import evaluate
    from tilewright.sim.lowering.mapping import get_dataflow
    from tilewright.workloads.gemm import GemmLayer

    change = {"matrix.rows": 128, "matrix.columns": 128, "matrix.stationarity": "weight"}
    machine = load_machine("edge-16x16").with_(**change, **{"matrix.fill_drain": "scale_sim"})
    gemm = get_dataflow("gemm", "gemm")
    layers = []
    for row in rows:
        m, k, n = row["m"], row["k"], row["n"]
        cost = product(machine.matrix, m, k, n, "fp16")
        assert cost.cycles - 1 == row["total_cycles"], (row, cost)  # SCALE-Sim counts cycles from 0
        layer = GemmLayer(
            name=str(row["layer"]),
            groups=1,
            m=m,
            k=k,
            n=n,
            a_bits=16,
            b_bits=16,
            out_bits=16,
            accumulator_bits=32,
            compute_format="fp16",
        )
        tiling = {parameter.name: 0 for parameter in gemm.parameters}
        tiling |= {"m": min(m, 1024), "n": min(n, 128), "k": min(k, 512), "order": 1, "depth": 2, "outputs": 2}
        layers.append((layer, tiling))
    warm_up()
    begun = time.perf_counter()
    cycles = sum(evaluate(gemm, layer, machine, tiling).cycles for layer, tiling in layers)
    return time.perf_counter() - begun, cycles


def main() -> None:
    arguments = argparse.ArgumentParser(description="ResNet-50 in SCALE-Sim and in Tilewright, in one run.")
    arguments.add_argument("--environment", type=Path, help="virtual environment with SCALE-Sim, used or made, kept")
    given = arguments.parse_args()
    if "SCALESIM_HERE" in os.environ:
        run_scalesim(Path(os.environ["SCALESIM_HERE"]))
        return
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        python = recorder().python_with_scalesim(given.environment or folder / "environment")
        print("SCALE-Sim runs the 54 layers (about four minutes)", flush=True)
        done = {**os.environ, "SCALESIM_HERE": str(folder), "PYTHONPATH": ""}
        subprocess.run([python, __file__], check=True, env=done, stdout=subprocess.DEVNULL)
        rows = json.loads((folder / "rows.json").read_text())
    theirs = sum(row["seconds"] for row in rows)
    ours, cycles = run_tilewright(rows)
    print(f"compute cycles equal on {len(rows)} of {len(rows)} layers")
    print(f"SCALE-Sim   {theirs:10.2f} s")
    print(f"Tilewright  {ours:10.4f} s   ({cycles:,} cycles with DRAM and buffers)   {theirs / ours:,.0f} times faster")


if __name__ == "__main__":
    sys.exit(main())
