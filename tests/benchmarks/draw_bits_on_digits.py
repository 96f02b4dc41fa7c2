"""Draws the README's picture of bit widths searched on trained networks.

Run with: python tests/benchmarks/draw_bits_on_digits.py examples/pictures/bits-on-digits.png (some minutes).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "validation"))

from digits_search import explore

MACHINES = ("edge-16x16", "edge-16x16-bitfusion")


def main(picture: str) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 6.4), layout="constrained", sharey="row")
    for row, network in zip(axes, ("convolutional", "transformer"), strict=True):
        for axis, machine in zip(row, MACHINES, strict=True):
            found = explore(network, machine)
            axis.axhline(100 * found.float_choice, color="0.7", lw=0.8, zorder=0)
            energies = [point.energy_pj * 1e-6 for point in found.random]
            accuracies = [100 * point.choice for point in found.random]
            axis.scatter(energies, accuracies, s=12, color="0.65", label="random")
            front = sorted(found.front, key=lambda point: point.energy_pj)
            axis.step(
                [point.energy_pj * 1e-6 for point in front],
                [100 * max(p.choice for p in front[: at + 1]) for at in range(len(front))],
                where="post", marker="o", ms=3, lw=1.4, color="tab:blue", label="searched",
            )  # fmt: skip
            for point in found.uniform:
                axis.plot(point.energy_pj * 1e-6, 100 * point.choice, "s", color="tab:red", ms=5)
                axis.annotate(
                    point.name, (point.energy_pj * 1e-6, 100 * point.choice), xytext=(4, -10), fontsize=7,
                    textcoords="offset points", color="tab:red",
                )  # fmt: skip
            axis.set_title(f"{network} on {machine}", fontsize=9)
            axis.set_xlabel("energy of 16 images, uJ")
            axis.set_ylim(bottom=max(80, axis.get_ylim()[0]))
            axis.spines[["top", "right"]].set_visible(False)
            print(machine, network, found.n_measured, "measured")
        row[0].set_ylabel("accuracy, %")
    axes[0, 0].legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1])
