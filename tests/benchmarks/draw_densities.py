"""Latency against density for four patterns of masks: an edge machine, the same with a slow DRAM, and an H100.

``python tests/benchmarks/draw_densities.py PICTURE [TABLE]`` takes attention of 24 heads, 17,408 tokens and width 64 (a
video of 17 frames) with each pattern at several densities, all in blocks of 128, and draws the time of each beside that
of dense attention, over the share of pairs that the pattern asks for; the table has all points (CSV). On the edge
machine it is the exact best run, with what choosing the lists or reading cached residuals takes; on the H100
flex_attention over the lists.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

from tilewright.cli.density import DensityCall, best_run
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.gpu.predict import kernel_seconds
from tilewright.sim.dataflows.attention.selection import selection_cost
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.load import load_workload

HEADS, TOKENS, WIDTH, BLOCK = 24, 17_408, 64, 128
_WINDOWS = ("17x24x32", "17x32x16", "17x16x16", "5x24x16", "5x16x16", "3x8x16")
_DENSITIES = (0.75, 0.5, 0.25, 0.1, 0.05, 0.02)
_POSITIONS = (1024, 768, 512, 256, 128, 64, 32)
#: Name of each pattern, and its masks.
PATTERNS: dict[str, tuple[str, ...]] = {
    "sliding tiles": tuple(f"sliding_tile:canvas=17x32x32,tile=1x8x16,window={one}" for one in _WINDOWS),
    "best blocks of each row": tuple(f"top_blocks:density={one},block={BLOCK},keys={BLOCK}" for one in _DENSITIES),
    "rows above a threshold": tuple(f"threshold:density={one},block={BLOCK},keys={BLOCK}" for one in _DENSITIES[1:]),
    "windows in each second frame": tuple(
        f"frame_windows:frames=17,window={one},cached=2,block={BLOCK}" for one in _POSITIONS
    ),
}


def attention(mask: str = "none") -> AttentionLayer:
    """The layer with ``mask``."""
    layer = load_workload(f"attention:heads={HEADS},seq={TOKENS},head_dim={WIDTH},mask={mask}")
    assert isinstance(layer, AttentionLayer)
    return layer


def asked(layer: AttentionLayer) -> float:
    """Share of all pairs that the pattern asks for, without what blocks add."""
    lists = layer.blocks
    assert lists is not None
    pairs = lists.n_pairs if lists.n_rule_pairs is None else lists.n_rule_pairs
    return pairs / (HEADS * TOKENS**2)


def simulated(machine: MachineSpec, layer: AttentionLayer, flows: list[str]) -> tuple[int, float]:
    """Cycles of the best run with what choosing its lists takes, and the share of pairs kept."""
    call = DensityCall(
        texts=(), machines=(machine,), densities=(), dataflows=flows, objective="latency", method=None, seed=0
    )
    cycles = best_run(layer, machine, call).cycles
    lists = layer.blocks
    return (cycles, 1.0) if lists is None else (cycles + selection_cost(layer, machine).cycles, asked(layer))


def on_gpu(machine: MachineSpec, layer: AttentionLayer) -> tuple[float, float]:
    """Seconds of flex_attention over the lists, and the share of pairs asked for."""
    import numpy as np

    lists = layer.blocks
    assert lists is not None
    lengths = np.concatenate([np.diff(lists.patterns[at].pointers) for at in lists.of_head])
    seconds = kernel_seconds(
        machine,
        "block_lists",
        "flex_blocks",
        batch=1,
        heads=HEADS,
        queries=TOKENS,
        head_dim=WIDTH,
        row_tokens=BLOCK,
        block=BLOCK,
        mean_milli=max(1, round(float(lengths.mean()) * 1000)),
        longest=int(lengths.max()),
    )
    return seconds, asked(layer)


def points() -> list[dict[str, Any]]:
    """One row a machine, pattern and density: latency as a share of dense attention's."""
    edge, h100 = load_machine("edge-16x16"), load_machine("h100")
    slow = edge.with_(**{"dram.bandwidth_gb_per_s": 2.0})
    dense_gpu = kernel_seconds(
        h100, "attention", "fa3_encoder", batch=1, queries=TOKENS, keys=TOKENS, heads=HEADS, kv_heads=HEADS,
        head_dim=WIDTH,
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    for title, machine in (("edge-16x16, 30 GB/s", edge), ("edge-16x16, 2 GB/s", slow), ("h100", h100)):
        gpu = machine.gpu is not None
        dense = dense_gpu if gpu else float(simulated(machine, attention(), ["flash2", "fusemax", "mas"])[0])
        for name, masks in PATTERNS.items():
            for mask in masks:
                layer = attention(mask)
                assert layer.blocks is not None
                time, kept = on_gpu(machine, layer) if gpu else simulated(machine, layer, ["flash2"])
                rows.append(
                    {
                        "machine": title,
                        "pattern": name,
                        "mask": mask,
                        "density": kept,
                        "cycles or seconds": time,
                        "dense": dense,
                        "of dense": time / dense,
                    }
                )
                print(rows[-1], flush=True)
    return rows


def draw(rows: list[dict[str, Any]], picture: Path) -> None:
    """A panel a machine, a line a pattern; dense at 1, and the pairs asked for as a dotted line."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    titles = list(dict.fromkeys(row["machine"] for row in rows))
    figure, panels = plt.subplots(1, len(titles), figsize=(11, 3.8), sharey=True, constrained_layout=True)
    ticks_x, ticks_y = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1), (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 4)
    for panel, title in zip(panels, titles, strict=True):
        panel.axhline(1, color="black", linewidth=1)
        panel.plot([0.01, 1], [0.01, 1], color="grey", linestyle=":", label="pairs asked for")
        for (name, style), marker in zip(zip(PATTERNS, ("-", "--", "-.", "-"), strict=True), "os^x", strict=True):
            own = sorted((r for r in rows if (r["machine"], r["pattern"]) == (title, name)), key=lambda r: r["density"])
            at, time = [r["density"] for r in own], [r["of dense"] for r in own]
            panel.plot(at, time, style, marker=marker, markersize=4, linewidth=1.3, label=name)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("share of pairs that the pattern asks for", fontsize=9)
        panel.loglog()
        panel.set_xlim(0.012, 1.1)
        panel.set_ylim(0.012, 5)
        panel.set_xticks(ticks_x[1:], [f"{tick:g}" for tick in ticks_x[1:]])
        panel.set_yticks(ticks_y[1:], [f"{tick:g}" for tick in ticks_y[1:]])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("time, of dense attention's")
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=5)
    figure.savefig(picture, dpi=110)


def main() -> None:
    rows = points()
    if len(sys.argv) > 2:
        with open(sys.argv[2], "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    draw(rows, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
