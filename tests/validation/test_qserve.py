"""Most tokens a second of a card by the precision that a server runs, beside QServe's published table.

``pytest tests/validation/test_qserve.py -s`` prints the figures of docs/systems.md. Nothing is fitted to the table.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tilewright.kernels.reading.systems import read_system_table
from tilewright.search.systems.compare import SystemsComparison, compare_systems

TABLE = Path(__file__).resolve().parents[2].parent / "shared" / "systems" / "llm_qserve_throughput.csv"

pytestmark = pytest.mark.skipif(not TABLE.is_file(), reason="the shared tables of systems are not there")


@pytest.fixture(scope="module")
def found() -> SystemsComparison:
    return compare_systems([read_system_table(TABLE)])


@pytest.mark.parametrize(("card", "mean"), [("L40S", 0.20), ("A100", 0.10)])
def test_throughput(found: SystemsComparison, card: str, mean: float) -> None:
    errors = [abs(row.error) for row in found.rows if row.row.system.startswith(card)]
    print(f"{card}: {len(errors)} rows, mean {np.mean(errors):.1%}, median {np.median(errors):.1%}")
    assert np.mean(errors) <= mean and np.median(errors) <= 0.15
    own = [abs(row.error) for row in found.rows if row.row.system.startswith(card) and "QServe" in row.row.runtime]
    assert np.mean(own) <= 0.10


def test_what_fits_and_in_which_order(found: SystemsComparison) -> None:
    """Every entry that ran out of memory does; of the pairs that differ by a tenth one is the wrong way round."""
    told = dict(found.remarks)
    fitting, rows = (int(word) for word in told["what fits into memory"].split() if word.isdigit())
    assert fitting == rows
    right, pairs = (int(word) for word in told["order of formats"].replace(";", "").split() if word.isdigit())
    print(told)
    assert right >= pairs - 1


def test_the_card_that_wins(found: SystemsComparison) -> None:
    """QServe serves an 8B model faster on the cheaper card: its lanes unpack caches faster than the A100's."""
    rates = {(row.row.system[:4], row.row.model): row.tokens_per_s for row in found.rows if "QServe" in row.row.runtime}
    for model in ("Llama-3-8B", "Mistral-7B", "Yi-34B"):
        if ("L40S", model) in rates:
            assert rates["L40S", model] > rates["A100", model]
    assert rates["A100", "Llama-2-70B"] > rates["L40S", "Llama-2-70B"]
