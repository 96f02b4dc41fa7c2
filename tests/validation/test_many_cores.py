"""Products on many cores with multicast, beside what was measured on Tenstorrent's n150; nothing is fitted.

``pytest tests/validation/test_many_cores.py -s`` prints every row; docs/validation.md has the table of all of them.
"""

from __future__ import annotations

import csv
from fractions import Fraction
from pathlib import Path

import pytest

from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.tiling import better_tiling
from tilewright.search.workload import pieces
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.workloads.gemm import GemmLayer

pytestmark = pytest.mark.slow

TABLE = Path(__file__).resolve().parents[2].parent / "shared/measured/tenstorrent/n150_wormhole_matmul.csv"
#: Bits of a value with its part of an exponent for 16 values; multiply rate of a fidelity.
BITS = {"BFLOAT16": Fraction(16), "BFLOAT8_B": Fraction(17, 2), "BFLOAT4_B": Fraction(9, 2)}
RATES = {"LoFi": 1.0, "HiFi2": 0.5, "HiFi4": 0.25}
EVERY = 4  # of the 75 rows


def best_cycles(layer: GemmLayer, machine: MachineSpec) -> int:
    flow = get_dataflow("staged", "gemm")
    best: tuple[float, float] | None = None
    for piece in pieces(layer, machine, flow):
        found = better_tiling(flow, piece, machine, to_beat=best)
        if found is not None:
            best = (found.cycles, found.energy_pj)
    assert best is not None
    return int(best[0])


def predicted_ns(row: dict[str, str]) -> float:
    """The best mapping of a measured product, as device time in ns."""
    machine = load_machine("tenstorrent-n150").with_(
        **{"matrix.multiplies_per_pe_per_cycle.bf16": RATES[row["fidelity"]]}
    )
    bits = BITS[row["dtype"]]
    layer = GemmLayer(
        name="product", groups=1, m=int(row["m"]), k=int(row["k"]), n=int(row["n"]), a_bits=bits, b_bits=bits,
        out_bits=bits, accumulator_bits=32, compute_format="bf16",
    )  # fmt: skip
    return machine.seconds(best_cycles(layer, machine)) * 1e9


def test_n150() -> None:
    """Tuned products replayed from a trace, so that the host's part is left out."""
    if not TABLE.is_file():
        pytest.skip("the measured table of the n150 is not beside the repository")
    with TABLE.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["config"] == "tuned" and row["trace"] == "True"]
    assert len(rows) == 75
    errors = []
    for row in rows[::EVERY]:
        found, measured = predicted_ns(row), float(row["time_ns"])
        errors.append(found / measured - 1)
        shape = " x ".join(row[name] for name in "mkn")
        print(f"{shape:20s} {row['dtype']:10s} {row['fidelity']:6s} {measured:13,.0f} {found:13,.0f} {errors[-1]:+.1%}")
    mean = sum(map(abs, errors)) / len(errors)
    print(f"{len(errors)} rows, mean error {mean:.1%}")
    assert mean <= 0.30
