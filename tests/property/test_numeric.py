"""Is every dataflow right on numbers, one amount of work however it runs, and tight in time and room?"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tilewright.sim.lowering.mapping import dataflow_names, get_dataflow
from tilewright.testing import check_bound, check_capacity, check_forms, check_numbers

# `make fuzz N=10000` sets this; the quick suite runs some for each dataflow.
N_EXAMPLES = int(os.environ.get("TILEWRIGHT_FUZZ", "25"))


@pytest.mark.parametrize("name", dataflow_names())
def test_every_mapping_computes_attention(name: str) -> None:
    check_numbers(get_dataflow(name), n_examples=N_EXAMPLES)


@pytest.mark.parametrize("name", dataflow_names())
def test_loops_skipping_and_counting_change_nothing(name: str) -> None:
    check_forms(get_dataflow(name), n_examples=N_EXAMPLES)


@pytest.mark.parametrize("check", [check_bound, check_capacity])
@pytest.mark.parametrize("name", dataflow_names())
def test_cycles_and_room_are_tight(name: str, check: Callable[..., None]) -> None:
    check(get_dataflow(name), n_examples=max(5, N_EXAMPLES // 4))


@pytest.mark.parametrize("check", [check_numbers, check_forms, check_bound, check_capacity])
def test_the_kit_holds_products_too(check: Callable[..., None]) -> None:
    check(get_dataflow("gemm", "gemm"), n_examples=max(5, N_EXAMPLES // 4))


@pytest.mark.parametrize("check", [check_forms, check_bound, check_capacity])
def test_the_kit_holds_work_by_rows_too(check: Callable[..., None]) -> None:
    check(get_dataflow("vector", "vector"), n_examples=max(5, N_EXAMPLES // 4))
