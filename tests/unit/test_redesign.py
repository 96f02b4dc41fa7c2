"""Are many designs of a machine, each made from values checked once, those that with_ gives?"""

from __future__ import annotations

import random
from typing import Any

import pytest

import tilewright
from tilewright.errors import InputError
from tilewright.hw_models.redesign import Redesigner

VALUES: dict[str, list[Any]] = {
    "clock_ghz": [0.5, 1, 1.0, 2],
    "n_cores": [1, 3],
    "matrix.rows": [8, 32],
    "matrix.stationarity": ["output", "flexible"],
    "matrix.multiplies_per_pe_per_cycle.int8": [1, 2.0],
    "vector.lanes": [16, 64],
    "buffers.l1.capacity_kib": [64, 100.5],
    "buffers.0.capacity_kib": [65],
    "buffers.l1.read_bytes_per_cycle": [64, None],
    "dram.bandwidth_gb_per_s": [3, 30, 33.3],
    "dram.grade": ["ddr4-3200", "lpddr4x-4266"],
    "dram.timing.trcd_ns": [20],
    "energy.static_mw": [0, 500],
    "energy.vector_pj.exp": [3],
}


def test_designs_are_those_of_with() -> None:
    machine, chance = tilewright.load_machine("edge-16x16"), random.Random(3)
    redesigner = Redesigner(machine)
    for _ in range(60):
        paths = chance.sample(sorted(VALUES), chance.randint(0, 6))
        design = {path: chance.choice(VALUES[path]) for path in paths}
        made, wanted, error = None, None, ""
        try:
            wanted = machine.with_(**design)
        except InputError as refusal:
            error = str(refusal)
        if wanted is None:
            with pytest.raises(InputError) as caught:
                redesigner.design(design)
            assert str(caught.value) == error
        else:
            made = redesigner.design(design)
            assert (made, repr(made)) == (wanted, repr(wanted))


@pytest.mark.parametrize(
    "design",
    [
        {"matrix.row": 8},
        {"matrix.rows": 0},
        {"matrix.rows": 8, "vector.lanes": "many"},
        {"dram.detail": "row_buffer", "dram.grade": "no such grade"},
        {"dram.grade": "lpddr4x-4266", "matrix.fill_drain": "sometimes"},
        {"buffers.l2.capacity_kib": 8},
        {"buffers.l1.name": "l2"},
    ],
)
def test_what_with_refuses_is_refused_in_the_same_words(design: dict[str, Any]) -> None:
    machine = tilewright.load_machine("edge-16x16")
    with pytest.raises(InputError) as said:
        machine.with_(**design)
    redesigner = Redesigner(machine)
    for _ in range(2):
        with pytest.raises(InputError) as caught:
            redesigner.design(design)
        assert str(caught.value) == str(said.value)
