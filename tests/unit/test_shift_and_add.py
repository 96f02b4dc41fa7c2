"""Products of shifts and of additions: on numbers, and the energy of their operations."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tilewright
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.primitives import unit_share
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


# --- on machines ----------------------------------------------------------------------------------------------------


def simulated(text: str, **changes: object) -> tuple[int, float]:
    """Cycles, and the energy of the matrix unit."""
    machine = load_machine("edge-16x16").with_(**changes) if changes else load_machine("edge-16x16")
    result = tilewright.simulate(text, machine, tiling={"m": 16, "n": 16, "k": 24})
    return result.cycles, result.energy_by_component["matrix"]


def test_a_machine_counts_shifts_and_additions_by_their_own_energies() -> None:
    sizes, n = "m=33,k=24,n=40,format=int8", 33 * 24 * 40
    registers = 0.576 * n
    cycles, whole = simulated(f"gemm:{sizes}")
    assert whole - registers == pytest.approx(0.3 * n)
    for primitive, share in (("shift", 0.054 / 0.23), ("add", 0.03 / 0.23)):
        text = f"shift_matmul:{sizes},primitive={primitive}"
        assert simulated(text) == (cycles, pytest.approx(registers + 0.3 * share * n))
    own = {"energy.shift_pj": {"int8": 0.11}, "energy.add_pj": {"int8": 0.02}}
    assert simulated(f"shift_matmul:{sizes},primitive=shift", **own)[1] == pytest.approx(registers + 0.13 * n)
    assert simulated(f"shift_matmul:{sizes},primitive=add", **own)[1] == pytest.approx(registers + 0.02 * n)


def test_a_machine_says_how_fast_it_shifts_and_adds_or_that_it_multiplies() -> None:
    sizes = "m=64,k=48,n=32,format=int8"
    near = {"dram.bandwidth_gb_per_s": 3000.0}
    plain, shift = f"gemm:{sizes}", f"shift_matmul:{sizes},primitive=shift"
    usual = simulated(plain, **near)
    fast = simulated(shift, **near, **{"matrix.shift_adds_per_pe_per_cycle": {"int8": 4.0}})
    assert fast[0] < usual[0] and fast[1] < usual[1]
    assert simulated(shift, **near, **{"matrix.shift_adds_per_pe_per_cycle": {"fp16": 1.0}}) == usual
    machine = load_machine("edge-16x16")
    with pytest.raises(InputError, match=r"shift_adds_per_pe_per_cycle.*int4"):
        machine.with_(**{"matrix.shift_adds_per_pe_per_cycle": {"int4": 1.0}})
    with pytest.raises(InputError, match=r"energy\.shift_pj"):
        machine.with_(**{"energy.shift_pj": {"int4": 1.0}})


def test_shares_are_those_of_the_table_and_lie_between_them() -> None:
    assert unit_share("shift", 8) == pytest.approx(0.024 / 0.23) and unit_share("add", 32) == pytest.approx(0.9 / 4.6)
    assert unit_share("add", 4) == unit_share("add", 8) < unit_share("add", 16) < unit_share("add", 32)
