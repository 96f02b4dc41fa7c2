"""Tokens a second against joules a token: one small model on six systems, and what was measured at their walls.

``python tests/benchmarks/draw_decode.py TABLE PICTURE [POINTS]`` takes the rows of Llama 3.2 3B in a table of measured
systems (``llm_edge_decode_wall_power.csv``), predicts each from data sheets and draws both; the points go into a CSV.
Measured joules are peak power of the whole computer over its rate, predicted ones those of the part that works and of
an idle host.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

from tilewright.kernels.reading.systems import read_system_table
from tilewright.search.systems.compare import SystemsRow, compare_systems

MODEL = "Llama 3.2:3b"
#: Words for the rows of the table that are drawn.
SYSTEMS = {
    "Intel 265K Custom PC (Nvidia RTX 4090)": "RTX 4090",
    "Mac Studio (M3 Ultra 512GB)": "M3 Ultra",
    "Dell Pro Max with GB10 (Nvidia Spark)": "GB10",
    "M4 Mac mini (10 core - 32GB)": "M4",
    "Framework 13 (Ryzen AI 5 340)": "Ryzen AI 5 340, processor",
    "Pi 5 - 16GB": "Raspberry Pi 5, processor",
}


def rows_of(path: str) -> list[SystemsRow]:
    """The rows that are drawn, with their predictions."""
    found = compare_systems([read_system_table(path)])
    return [row for row in found.rows if row.row.model == MODEL and row.row.system in SYSTEMS]


def points(rows: list[SystemsRow]) -> list[dict[str, Any]]:
    """A row of plain data for each system."""
    return [
        {
            "system": SYSTEMS[row.row.system],
            "measured_tokens_per_s": row.row.tokens_per_s,
            "predicted_tokens_per_s": round(row.tokens_per_s, 2),
            "measured_joules_per_token": round((row.row.watts or 0) / (row.row.tokens_per_s or 1), 3),
            "predicted_joules_per_token": round(row.joules_per_token or 0, 3),
        }
        for row in rows
    ]


def draw(found: list[dict[str, Any]], picture: str) -> None:
    """The picture: a colour a system, filled as predicted, open as measured."""
    from tilewright.reports.figure import new_figure, png_bytes

    figure = new_figure(7.2, 4.6)
    axes = figure.subplots()
    for at, point in enumerate(found):
        colour = f"C{at}"
        rates = [point["predicted_tokens_per_s"], point["measured_tokens_per_s"]]
        joules = [point["predicted_joules_per_token"], point["measured_joules_per_token"]]
        axes.plot(rates, joules, "-", color=colour, linewidth=0.7)
        axes.plot(rates[:1], joules[:1], "o", color=colour, markersize=8, label=point["system"])
        axes.plot(rates[1:], joules[1:], "o", color=colour, markersize=8, markerfacecolor="white")
    axes.plot([], [], "o", color="0.3", label="predicted: part and idle host")
    axes.plot([], [], "o", color="0.3", markerfacecolor="white", label="measured: peak at the wall")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(0.3, 6)
    axes.set_yticks([0.3, 0.5, 1, 2, 5], ["0.3", "0.5", "1", "2", "5"])
    axes.set_xticks([5, 10, 20, 50, 100, 200, 400], ["5", "10", "20", "50", "100", "200", "400"])
    axes.minorticks_off()
    axes.set_xlabel("tokens/s")
    axes.set_ylabel("J/token")
    axes.set_title("Llama 3.2 3B (Q4_K_M), one sequence: nothing fitted to these systems", fontsize=10, loc="left")
    axes.grid(True, linewidth=0.3)
    axes.legend(fontsize=8, ncols=2, loc="upper right")
    Path(picture).write_bytes(png_bytes(figure))


def main(table: str, picture: str, kept: str | None = None) -> None:
    found = points(rows_of(table))
    draw(found, picture)
    if kept is not None:
        with Path(kept).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(found[0]))
            writer.writeheader()
            writer.writerows(found)
    for point in found:
        print(*point.values(), sep="  ")


if __name__ == "__main__":
    main(*sys.argv[1:])
