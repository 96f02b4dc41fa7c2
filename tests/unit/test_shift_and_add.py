"""Products of shifts and of additions: on numbers, and the energy of their operations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.sim.fusion.reference import network_on_numbers
from tilewright.sim.operation_energy import UNIT_PJ, operation_energy_pj, operations
from tilewright.testing import check_operator_kind
from tilewright.workloads.network import load_network


@pytest.mark.parametrize("primitive", ["shift", "add"])
def test_numbers_are_those_of_integer_shifts_and_sums(primitive: str) -> None:
    stream = load_network(f"shift_matmul:m=5,k=7,n=3,batch=2,primitive={primitive}")
    numbers = np.random.default_rng(2)
    a, powers = numbers.integers(-128, 128, (2, 5, 7)), numbers.integers(0, 7, (7, 3))
    signs = numbers.choice([-1, 1], (7, 3))
    found = network_on_numbers(stream, {"a": a.astype(float), "w": (signs * 2**powers).astype(float)})
    for b, i, j in np.ndindex(2, 5, 3):
        total = 0
        for t in range(7):
            value = int(a[b, i, t]) << int(powers[t, j]) if primitive == "shift" else int(a[b, i, t])
            total += value if signs[t, j] > 0 else -value
        assert found[stream.outputs[0]][b, i, j] == total


def test_operations_cost_their_unit_energies() -> None:
    n = 196 * 192 * 768
    shift, add, plain = (
        load_network(text)
        for text in (
            "shift_matmul:m=196,k=192,n=768,primitive=shift",
            "shift_matmul:m=196,k=192,n=768,primitive=add",
            "gemm:m=196,k=192,n=768",
        )
    )
    assert operations(shift) == {"shift": n, "add": n} and operations(add) == {"add": n}
    assert operations(plain) == {"multiply": n, "add": n}
    assert sum(operation_energy_pj(plain).values()) == pytest.approx(n * 0.23)
    assert sum(operation_energy_pj(shift).values()) == pytest.approx(n * 0.054)
    assert sum(operation_energy_pj(add, 32).values()) == pytest.approx(n * 0.9)
    assert math.isclose(UNIT_PJ["multiply", 32] / UNIT_PJ["shift", 32], 3.7 / 0.13)
    with pytest.raises(InputError, match="bits: given 16"):
        operation_energy_pj(plain, 16)


def test_it_is_held_to_what_kinds_are_held_to() -> None:
    check_operator_kind("shift_matmul", load_network("shift_matmul:m=5,k=7,n=3"), load_machine("edge-16x16"))
    with pytest.raises(InputError, match="primitive"):
        load_network("shift_matmul:m=5,k=7,n=3,primitive=multiply")
