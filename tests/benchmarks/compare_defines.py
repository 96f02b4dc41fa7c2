"""The 108 tilings of DeFiNES' first case study: energy and latency of FSRCNN, beside the tool's figures where known.

Run with: python tests/benchmarks/compare_defines.py [--csv FILE] [--picture FILE]. The tool's figures are read from
../shared where that folder is there. About half a minute.
"""

from __future__ import annotations

import argparse
import csv
from itertools import product
from pathlib import Path

import numpy as np

from tilewright.hw_models.hierarchy import load_hierarchy
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.tiles.cost import depth_first_cost
from tilewright.sim.fusion.tiles.geometry import MODES, Mode
from tilewright.workloads.network import load_network

PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "fusion_quant" / "defines_fsrcnn_metaproto_sweep.csv"
COLUMNS = (1, 4, 16, 60, 240, 960)
ROWS = (1, 4, 18, 72, 270, 540)
Tiling = tuple[Mode, int, int]


def ours() -> dict[Tiling, tuple[float, float]]:
    """(mJ, Mcycle) of every tiling."""
    graph = fusion_graph(load_network("fsrcnn"), absorb=True)
    hierarchy = load_hierarchy("meta-proto-like-df")
    found: dict[Tiling, tuple[float, float]] = {}
    for mode, x, y in product(MODES, COLUMNS, ROWS):
        cost = depth_first_cost(graph, graph.all_mask, hierarchy, mode=mode, tile=(x, y))
        found[mode, x, y] = cost.total_pj / 1e9, cost.cycles / 1e6
    return found


def published() -> dict[tuple[str, int, int], tuple[float, float]]:
    """(mJ, Mcycle) of the points computed with the tool; none where the file is not there."""
    if not PUBLISHED.exists():
        return {}
    with PUBLISHED.open(encoding="utf-8") as file:
        return {
            (row["mode"], int(row["tile_x"]), int(row["tile_y"])): (
                float(row["energy_mJ"]),
                float(row["latency_Mcycle"]),
            )
            for row in csv.DictReader(file)
        }


def picture(found: dict[Tiling, tuple[float, float]], path: str) -> None:
    """Heat maps, modes side by side."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import LogNorm

    figure, axes = plt.subplots(2, 3, figsize=(10.5, 6.2), layout="constrained")
    for row, what in enumerate(("energy (mJ)", "latency (Mcycle)")):
        values = np.array([[[found[mode, x, y][row] for x in COLUMNS] for y in ROWS] for mode in MODES])
        norm = LogNorm(values.min(), values.max())
        for panel in range(len(MODES)):
            axis = axes[row, panel]
            axis.imshow(values[panel], cmap="viridis_r", norm=norm, origin="lower", aspect="auto")
            for j, i in product(range(len(ROWS)), range(len(COLUMNS))):
                value = values[panel, j, i]
                axis.text(
                    i, j, f"{value:.1f}" if value < 100 else f"{value:.0f}", ha="center", va="center", fontsize=7.5,
                    color="white" if norm(value) > 0.55 else "black",
                    fontweight="bold" if value == values.min() else "normal",
                )  # fmt: skip
            axis.set_xticks(range(len(COLUMNS)), COLUMNS)
            axis.set_yticks(range(len(ROWS)), ROWS)
        axes[row, 0].set_ylabel(f"{what}\ntile rows")
    for panel, mode in enumerate(MODES):
        axes[0, panel].set_title(mode.replace("_", " "), fontsize=10)
        axes[1, panel].set_xlabel("tile columns")
    figure.suptitle("FSRCNN, 540 x 960 outputs, all layers as one stack, on meta-proto-like-df", fontsize=11)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Print the table; write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", help="write the figures there")
    parser.add_argument("--picture", help="draw the heat maps there")
    arguments = parser.parse_args()
    found, known = ours(), published()
    lines = [["mode", "tile_x", "tile_y", "energy_mJ", "latency_Mcycle", "defines_mJ", "defines_Mcycle"]]
    for (mode, x, y), (energy, cycles) in found.items():
        theirs = known.get((mode, x, y), ("", ""))
        lines.append([mode, str(x), str(y), f"{energy:.4f}", f"{cycles:.4f}", *map(str, theirs)])
    for line in lines:
        print(("{:21s}" + "{:>15s}" * 6).format(*line))
    if arguments.csv:
        with Path(arguments.csv).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(lines)
    if arguments.picture:
        picture(found, arguments.picture)


if __name__ == "__main__":
    main()
