"""Record what SCALE-Sim v3 says of matrix products, so that the tests can hold the matrix unit to it.

    python tests/golden/record_scalesim.py gemm        # tests/golden/scalesim_gemm.csv, some seconds
    python tests/golden/record_scalesim.py resnet50    # tests/golden/scalesim_resnet50.csv, about five minutes

SCALE-Sim (``scalesim`` 3.0.0, MIT licence) is installed into a virtual environment of its own, because it needs a numpy
older than 2; ``--environment`` names one to keep. It is run through its public class, on a topology file, in its
stall-free bandwidth mode, and its reports are read back. Columns:

* ``total_cycles``: "Total Cycles" of COMPUTE_REPORT.csv. Cycles are counted from 0 there, so a run of L lines of
  demand, one a cycle, has total_cycles = L - 1; ``stall_cycles`` is 0 in this mode.
* ``reads_a``, ``reads_b``: "SRAM IFMAP Reads" and "SRAM Filter Reads" of DETAILED_ACCESS_REPORT.csv.
* ``wall_s`` (ResNet-50): seconds that one layer took, reports excluded.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

HERE = Path(__file__).parent
VERSION = "3.0.0"
ARRAYS = ((4, 4), (8, 8), (16, 16), (32, 32), (8, 32), (32, 8), (12, 14), (5, 7), (1, 16), (16, 1))
DATAFLOWS = {"os": "output", "ws": "weight", "is": "input"}
RESNET_ARRAY = (128, 128)
RESNET_DATAFLOW = "ws"

CONFIG = """[general]
run_name = run
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {columns}
IfmapSramSzkB = 4096
FilterSramSzkB = 4096
OfmapSramSzkB = 4096
IfmapOffset = 0
FilterOffset = 100000000
OfmapOffset = 200000000
Dataflow = {dataflow}
Bandwidth = 10
ReadRequestBuffer = 60
WriteRequestBuffer = 60
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
SparseRep = ellpack_block
OptimizedMapping = false
BlockSize = 4
RandomNumberGeneratorSeed = 40
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""


def gemms(rows: int, columns: int, draw: random.Random) -> list[tuple[int, int, int]]:
    """(m, k, n) around the edges of an array, and some drawn ones."""
    edges = [
        (1, 1, 1),
        (rows, columns, rows),
        (rows + 1, 2 * rows, columns + 1),
        (2 * columns, rows, max(columns - 1, 1)),
    ]
    drawn = [tuple(int(2 ** draw.uniform(0, 6.5)) for _ in range(3)) for _ in range(4)]
    return edges + drawn  # type: ignore[return-value]


def resnet50() -> list[tuple[str, int, int, int]]:
    """(name, m, k, n) of every layer of ResNet-50 at 224 x 224 as a product; stride in the 3x3 convolutions."""
    layers = [("conv1", 112 * 112, 7 * 7 * 3, 64)]
    channels = 64
    for stage, (blocks, width, side) in enumerate(((3, 64, 56), (4, 128, 28), (6, 256, 14), (3, 512, 7)), start=2):
        for block in range(blocks):
            side_in = side * 2 if stage > 2 and block == 0 else side
            name = f"conv{stage}_{block + 1}"
            layers.append((f"{name}a", side_in**2, channels, width))
            layers.append((f"{name}b", side**2, 9 * width, width))
            layers.append((f"{name}c", side**2, width, 4 * width))
            if block == 0:
                layers.append((f"{name}skip", side**2, channels, 4 * width))
            channels = 4 * width
    return [*layers, ("fc", 1, channels, 1000)]


def read_report(path: Path) -> list[dict[str, str]]:
    """Rows of one of the reports, which end in a comma and have blanks around the names."""
    with path.open(newline="") as lines:
        return [{key.strip(): value.strip() for key, value in row.items() if key} for row in csv.DictReader(lines)]


def simulate(
    rows: int, columns: int, dataflow: str, products: list[tuple[int, int, int]], folder: Path
) -> list[dict[str, object]]:
    """Run SCALE-Sim on ``products`` one after the other; one row for each."""
    from scalesim.scale_sim import scalesim  # type: ignore[import-not-found]

    config, topology, layout = folder / "array.cfg", folder / "gemm.csv", folder / "layout.csv"
    config.write_text(CONFIG.format(rows=rows, columns=columns, dataflow=dataflow))
    lines = [f"g{index}, {m}, {n}, {k}, 1:1," for index, (m, k, n) in enumerate(products)]
    topology.write_text("\n".join(["Layer, M, N, K, Sparsity,", *lines]) + "\n")
    layout.write_text("Layer,\n" + "".join(f"g{index}," + "1," * 20 + "\n" for index in range(len(products))))
    run = scalesim(True, False, str(config), str(topology), str(layout), True)
    run.run_scale(top_path=str(folder))
    compute = read_report(folder / "run" / "COMPUTE_REPORT.csv")
    access = read_report(folder / "run" / "DETAILED_ACCESS_REPORT.csv")
    return [
        {
            "rows": rows,
            "columns": columns,
            "stationarity": DATAFLOWS[dataflow],
            "m": m,
            "k": k,
            "n": n,
            "total_cycles": int(float(timing["Total Cycles"])),
            "stall_cycles": int(float(timing["Stall Cycles"])),
            "reads_a": int(float(reads["SRAM IFMAP Reads"])),
            "reads_b": int(float(reads["SRAM Filter Reads"])),
        }
        for (m, k, n), timing, reads in zip(products, compute, access, strict=True)
    ]


def write(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="") as lines:
        table = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    print(f"{path}: {len(rows)} rows")


def record_gemm(folder: Path) -> None:
    draw = random.Random(20240611)
    rows = []
    for height, width in ARRAYS:
        products = gemms(height, width, draw)
        for dataflow in DATAFLOWS:
            rows += simulate(height, width, dataflow, products, folder)
    write(HERE / "scalesim_gemm.csv", rows)


def record_resnet50(folder: Path) -> None:
    rows = []
    for name, m, k, n in resnet50():
        start = time.perf_counter()
        row = simulate(*RESNET_ARRAY, RESNET_DATAFLOW, [(m, k, n)], folder)[0]
        rows.append({"layer": name, **row, "wall_s": f"{time.perf_counter() - start:.2f}"})
        print(rows[-1], flush=True)
    write(HERE / "scalesim_resnet50.csv", rows)


def python_with_scalesim(folder: Path) -> Path:
    """The interpreter of an environment in ``folder`` that has SCALE-Sim; made where it is missing."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    packages = [f"scalesim=={VERSION}", "numpy<2"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def main() -> None:
    arguments = argparse.ArgumentParser(description="Record figures of SCALE-Sim v3.")
    arguments.add_argument("what", choices=("gemm", "resnet50"))
    arguments.add_argument("--environment", type=Path, help="virtual environment to use or to make, and to keep")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        if "SCALESIM_HERE" in os.environ:
            {"gemm": record_gemm, "resnet50": record_resnet50}[given.what](folder)
            return
        python = python_with_scalesim(given.environment or folder / "environment")
        subprocess.run([python, __file__, given.what], check=True, env={**os.environ, "SCALESIM_HERE": "1"})


if __name__ == "__main__":
    sys.exit(main())
