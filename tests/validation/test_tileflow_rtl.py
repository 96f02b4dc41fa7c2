"""Cycles and traffic of TileFlow's 131 RTL runs: two chained products on one core of its chip.

Measured figures: TileFlow (MICRO 2023), public artifact, as one table ``attention_papers/tileflow_rtl_131.csv``. It is
looked for in the folder that the environment variable TILEWRIGHT_SHARED names, else in ``shared`` beside the checkout.
The machine is ``tileflow-rtl``; nothing is fitted. What was inferred from these rows, and so is not tested by them, is
said in ``tests/validation/tileflow_chain.py`` and printed below.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tileflow_chain import Chain, ChainRules, ChainTiling, Traffic, chain_program, traffic

from tilewright.hw_models.load import load_machine
from tilewright.sim.engine.run import simulate

pytestmark = pytest.mark.validation

MACHINE = load_machine("tileflow-rtl")
PUBLISHED_TILEFLOW = 0.054
PUBLISHED_OPERATOR_SUM = 0.488
LIMIT = 0.02


class Row(NamedTuple):
    """One run of the RTL: shape (M, L, K, N), micro tiles (M, K, L), cycles, counted bits."""

    shape: tuple[int, int, int, int]
    micro: tuple[int, int, int]
    cycles: int
    bits: Traffic


class Variant(NamedTuple):
    """Another structure; ``changes`` are to the machine. The errors, in percent, are those that the code now gives."""

    changes: dict[str, Any]
    rules: ChainRules
    mean: float
    worst: float


# Room for as many contexts as one likes: a structure is judged by its cycles here.
ROOM = {"buffers.cache.capacity_kib": 4096}
AS_IS = "as in tileflow-rtl: 4 contexts, all rules"
VARIANTS = {
    AS_IS: Variant({}, ChainRules(), 0.83, 2.1),
    "1 context": Variant(ROOM, ChainRules(contexts=1), 55.26, 100.9),
    "2 contexts": Variant(ROOM, ChainRules(contexts=2), 3.33, 17.1),
    "3 contexts": Variant(ROOM, ChainRules(contexts=3), 3.87, 21.9),
    "5 contexts": Variant(ROOM, ChainRules(contexts=5), 1.07, 2.9),
    "8 contexts": Variant(ROOM, ChainRules(contexts=8), 1.12, 4.9),
    "no limit of result buffers": Variant({}, ChainRules(result_buffers=0), 0.93, 2.9),
    "no limit of staging blocks": Variant({}, ChainRules(staging_blocks=0), 1.14, 4.4),
    "neither limit": Variant({}, ChainRules(result_buffers=0, staging_blocks=0), 1.24, 5.3),
    "stationary operand on the read port too": Variant({}, ChainRules(stationary_port=False), 1.16, 5.5),
    "fill and drain hidden": Variant({"matrix.fill_drain": "hidden"}, ChainRules(), 1.49, 10.2),
    "fill and drain per pass": Variant({"matrix.fill_drain": "per_pass"}, ChainRules(), 6.42, 40.7),
    "48 vector lanes": Variant({"vector.lanes": 48}, ChainRules(), 1.29, 5.0),
    "one DRAM port for both ways": Variant({"dram.ports": "shared"}, ChainRules(), 2.45, 7.2),
}
LIMITS = ("no limit of result buffers", "no limit of staging blocks", "neither limit")
# Read off the measurements, so no part of the comparison: it shows what the error is that is left.
SIX_CYCLES_A_TRANSFER = {"dram.first_access_latency_ns": 15}


def csv_path() -> Path:
    beside = Path(__file__).resolve().parents[2].parent / "shared"
    return Path(os.environ.get("TILEWRIGHT_SHARED", beside)) / "attention_papers" / "tileflow_rtl_131.csv"


@pytest.fixture(scope="module")
def rows() -> tuple[Row, ...]:
    path = csv_path()
    if not path.is_file():
        pytest.skip(f"the measured cycles are not here: {path} (or set TILEWRIGHT_SHARED)")
    with path.open(encoding="utf-8", newline="") as file:
        table = [{key: int(value) for key, value in line.items()} for line in csv.DictReader(file)]
    return tuple(
        Row(
            shape=(r["M"], r["L"], r["K"], r["N"]),
            micro=(r["micro_M"], r["micro_K"], r["micro_L"]),
            cycles=r["rtl_cycles"],
            bits=Traffic(r["mem_to_buf"], r["buf_to_mem"], r["buf_to_reg"], r["reg_to_buf"]),
        )
        for r in table
    )


@cache
def predicted(row: Row, variant: str = AS_IS) -> int:
    return _run(row, VARIANTS[variant].changes, VARIANTS[variant].rules)


def _run(row: Row, changes: dict[str, Any], rules: ChainRules) -> int:
    machine = MACHINE.with_(**changes) if changes else MACHINE
    return simulate(chain_program(*mapping(row), machine, rules=rules)).cycles


def mapping(row: Row) -> tuple[Chain, ChainTiling]:
    rows, keys, depth, width = row.shape
    return Chain(rows=rows, keys=keys, depth=depth, width=width), ChainTiling(
        rows=row.micro[0], depth=row.micro[1], keys=row.micro[2]
    )


def bare_maximum(row: Row) -> float:
    """The largest of DRAM, array and cache time over the counted words: 4, 256 and 32 + 32 a cycle."""
    rows, keys, depth, width = row.shape
    words = [n / 16 for n in row.bits]
    return max((words[0] + words[1]) / 4, rows * keys * (depth + width) / 256, words[2] / 32, words[3] / 32)


def errors(rows: Sequence[Row], model: Callable[[Row], float]) -> list[float]:
    return [model(row) / row.cycles - 1 for row in rows]


def mean_absolute(values: Sequence[float]) -> float:
    return sum(abs(value) for value in values) / len(values)


def worst(values: Sequence[float]) -> float:
    return max(abs(value) for value in values)


def test_the_set_is_whole(rows: tuple[Row, ...]) -> None:
    assert len(rows) == 131
    assert len({(row.shape, row.micro) for row in rows}) == 131


def test_traffic_is_exact(rows: tuple[Row, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """All four columns, derived by counting the commands of the program."""
    for row in rows:
        assert traffic(chain_program(*mapping(row), MACHINE)) == row.bits, row
    with capsys.disabled():
        print(f"\n\nTileFlow RTL, traffic: all 4 columns of all {len(rows)} mappings exact to the bit")


def test_cycles(rows: tuple[Row, ...], capsys: pytest.CaptureFixture[str]) -> None:
    ours, bare = errors(rows, predicted), errors(rows, bare_maximum)
    with capsys.disabled():
        print(f"\n\nTileFlow RTL, cycles: error over {len(rows)} mappings       mean abs.    worst")
        for name, mean, most in (
            ("published: sum of operators (graph-based)", PUBLISHED_OPERATOR_SUM, None),
            ("published: TileFlow", PUBLISHED_TILEFLOW, None),
            ("bare maximum of DRAM, array and cache time", mean_absolute(bare), worst(bare)),
            ("Tilewright, tileflow-rtl", mean_absolute(ours), worst(ours)),
        ):
            print(f"  {name:46} {mean:9.2%}" + (f" {most:9.2%}" if most is not None else f" {'-':>9}"))
        print("  by shape (M, L, K, N):")
        for shape in dict.fromkeys(row.shape for row in rows):
            part = errors([row for row in rows if row.shape == shape], predicted)
            print(f"    {shape!s:20} {len(part):3} mappings {mean_absolute(part):22.2%} {worst(part):9.2%}")
        row = max(rows, key=lambda row: abs(predicted(row) / row.cycles - 1))
        print(
            f"  worst row: shape {row.shape}, micro (M, K, L) {row.micro}: measured {row.cycles:,}, "
            f"predicted {predicted(row):,} ({predicted(row) / row.cycles - 1:+.2%})"
        )
    assert mean_absolute(bare) == pytest.approx(0.0267, abs=5e-5)
    assert mean_absolute(ours) <= LIMIT
    assert mean_absolute(ours) == pytest.approx(0.0083, abs=5e-5)  # as before
    assert worst(ours) <= 0.021


def test_what_is_left_has_one_sign_and_one_cause(rows: tuple[Row, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """A known gap: every prediction is early, and 6 cycles a transfer (published nowhere) would close most of it."""
    ours = errors(rows, predicted)
    closed = errors(rows, lambda row: _run(row, SIX_CYCLES_A_TRANSFER, ChainRules()))
    with capsys.disabled():
        print(
            f"\n\nTileFlow RTL, what is left: every prediction is early ({min(ours):+.2%} to {max(ours):+.2%}). With 6 "
            f"cycles a DRAM transfer, a figure\n  read off these rows and so not used, the mean error would be "
            f"{mean_absolute(closed):.2%} (worst {worst(closed):.2%})."
        )
    assert max(ours) < 0
    assert mean_absolute(closed) == pytest.approx(0.00144, abs=5e-6)


def test_what_each_part_of_the_structure_is_worth(rows: tuple[Row, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """The table in ``tests/validation/tileflow_chain.py`` is what the code gives."""
    found = {name: errors(rows, partial(predicted, variant=name)) for name in VARIANTS}
    with capsys.disabled():
        print("\n\nTileFlow RTL, structures tried (no constant from the data in any):  mean abs.    worst")
        for name, part in found.items():
            print(f"  {name:65} {mean_absolute(part):8.2%} {worst(part):8.1%}")
        print(
            "  4 contexts in strict rotation, 2 result buffers, 2 staging blocks and the port of the stationary\n"
            "  operand are in no publication: they were inferred from these 131 rows, all of them read. Fill and\n"
            "  drain, lanes and DRAM ports are readings of the publication, chosen by these rows. No number is fitted."
        )
    for name, part in found.items():
        assert 100 * mean_absolute(part) == pytest.approx(VARIANTS[name].mean, abs=0.005), name
        assert 100 * worst(part) == pytest.approx(VARIANTS[name].worst, abs=0.05), name


def test_the_choice_without_some_rows(rows: tuple[Row, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """The structure is chosen among those above without the rows of one shape (or tile), and judged on these."""
    lines = ["\n\nTileFlow RTL, structure chosen on the other rows, and its mean error on those held out:"]

    def choose(without: str, key: Callable[[Row], object], value: object, among: Sequence[str]) -> dict[str, float]:
        """The best structures on the other rows (several where these do not tell), with the error on the held-out."""
        others = [row for row in rows if key(row) != value]
        held_out = [row for row in rows if key(row) == value]
        on_others = {name: mean_absolute(errors(others, partial(predicted, variant=name))) for name in among}
        least = min(on_others.values())
        chosen = [name for name, error in on_others.items() if error <= least + 1e-12]
        result = {name: mean_absolute(errors(held_out, partial(predicted, variant=name))) for name in chosen}
        spread = f"{min(result.values()):.2%}"
        if len(chosen) > 1:
            spread += f" to {max(result.values()):.2%}"
        who = chosen[0] if len(chosen) == 1 else f"{len(chosen)} that they do not tell apart"
        lines.append(f"  {without:26} {len(held_out):3} rows {spread:16} {who}")
        return result

    for shape in dict.fromkeys(row.shape for row in rows):
        ((name, error),) = choose(f"shape {shape}", lambda row: row.shape, shape, list(VARIANTS)).items()
        assert name == AS_IS
        assert error < 0.01
    for micro_m in (16, 32):
        ((name, error),) = choose(f"micro_M = {micro_m}", _micro_m, micro_m, list(VARIANTS)).items()
        assert name == AS_IS
        assert error < 0.01
    # Blocks of 16 and 32 rows mostly wait for DRAM. What they miss is the 6 cycles a transfer, and whatever is too slow
    # makes up for it; the two limits do not show at all.
    misled = choose("micro_M = 64", _micro_m, 64, list(VARIANTS))
    assert misled == {"fill and drain per pass": pytest.approx(0.265, abs=5e-4)}
    unsure = choose("same, limits only", _micro_m, 64, [AS_IS, *LIMITS])
    assert set(unsure) == {AS_IS, *LIMITS}
    assert max(unsure.values()) == pytest.approx(0.0271, abs=5e-5)
    lines.append(
        "  So fill and drain per command, and the two limits, are known from the 29 rows of micro_M = 64 only."
    )
    lines.append("  All rows had been read when the structures were thought of: this tests the choice among them, not")
    lines.append("  their invention.")
    with capsys.disabled():
        print("\n".join(lines))


def _micro_m(row: Row) -> int:
    return row.micro[0]
