"""More memory on chip helps exactly until everything fits: five networks over the capacity of the buffer.

``python tests/benchmarks/draw_capacity.py PICTURE [TABLE]`` plans every network on edge-16x16 with buffers from 64 KiB
to 64 MiB (int8, best latency), draws cycles, DRAM bytes and energy of an inference behind the first against those with
everything in the DRAM, and writes the table of all points (CSV) with the proof of every plan.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from typing import Any

from tilewright.hw_models.load import load_machine
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import simulate_stream
from tilewright.workloads.network import load_network

NETWORKS = ("mobilenet-v2", "resnet-18", "squeezenet-1.1", "ds-cnn", "bert-base")
CAPACITIES_KIB = tuple(64 << n for n in range(11))
FIGURES = ("cycles", "dram_bytes", "energy_pj")
LABELS = ("cycles", "DRAM bytes", "energy")


def points(name: str, cache: MappingCache) -> list[dict[str, Any]]:
    """One row a capacity, from the largest down; beyond what everything needs, nothing changes."""
    stream = load_network(name).with_formats(weights="int8", activations="int8")
    rows: list[dict[str, Any]] = []
    for kib in CAPACITIES_KIB:
        if rows and rows[-1]["everything fits"]:
            rows.append({**rows[-1], "capacity KiB": kib, "seconds": 0.0})
            continue
        machine = load_machine("edge-16x16").with_(**{"buffers.l1.capacity_kib": kib})
        begun = time.perf_counter()
        plain = simulate_stream(stream, machine, cache=cache, residency=False)
        result = simulate_stream(stream, machine, cache=cache, residency=True)
        plan = result.residency
        outside = sum(stream.tensor(one).n_bytes for one in (*stream.inputs, *stream.outputs))
        rows.append(
            {
                "network": name,
                "capacity KiB": kib,
                "cycles": result.cycles,
                "dram_bytes": result.dram_bytes,
                "energy_pj": round(result.energy_pj),
                "cycles without": plain.cycles,
                "dram_bytes without": plain.dram_bytes,
                "energy_pj without": round(plain.energy_pj),
                "kept": 0 if plan is None else len(plan.tensors),
                "weights kept": 0 if plan is None else plan.weight_bytes,
                "gap": 0.0 if plan is None else round(plan.gap, 5),
                "everything fits": plan is not None and plan.proven and result.dram_bytes < 4 * outside + 65536,
                "seconds": round(time.perf_counter() - begun, 1),
            }
        )
        print(rows[-1], flush=True)
    return rows


def draw(rows: list[dict[str, Any]], picture: Path) -> None:
    """Three panels, a line a network; a ring marks the point from which on nothing changes."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(11, 3.6), constrained_layout=True)
    for panel, figure_name, label in zip(panels, FIGURES, LABELS, strict=True):
        for name in dict.fromkeys(row["network"] for row in rows):
            own = [row for row in rows if row["network"] == name]
            x = [row["capacity KiB"] for row in own]
            y = [row[figure_name] / own[0][f"{figure_name} without"] for row in own]
            (line,) = panel.plot(x, y, marker=".", label=name)
            settled = next((at for at in range(len(own)) if all(abs(v - y[at]) < 1e-9 for v in y[at:])), None)
            if settled is not None:
                panel.plot(x[settled], y[settled], "o", fillstyle="none", markersize=10, color=line.get_color())
        panel.set_xscale("log", base=2)
        panel.set_xticks(
            CAPACITIES_KIB[::2], [f"{k} KiB" if k < 1024 else f"{k // 1024} MiB" for k in CAPACITIES_KIB[::2]]
        )
        panel.set_title(f"{label}, of those without a plan at 64 KiB", fontsize=9)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.savefig(picture, dpi=110)


def _size(kib: int) -> str:
    return f"{kib} KiB" if kib < 1024 else f"{kib // 1024} MiB"


def main() -> None:
    picture = Path(sys.argv[1])
    cache = MappingCache()
    rows = [row for name in NETWORKS for row in points(name, cache)]
    if len(sys.argv) > 2:
        with open(sys.argv[2], "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    draw(rows, picture)


if __name__ == "__main__":
    main()
