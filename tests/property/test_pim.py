"""Banks that multiply: the run in jumps is the definition cycle by cycle, and closed forms are what runs."""

from __future__ import annotations

import os
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilewright.hw_models.pim import PimTimingSpec, load_pim
from tilewright.sim.pim import closed_form
from tilewright.sim.pim.commands import Command
from tilewright.sim.pim.program import (
    CONFIGURE,
    FUNCTION_ROW,
    SYNC,
    Instruction,
    Item,
    Repeat,
    access,
    accumulators_in,
    accumulators_out,
    buffer_in,
    mac,
    multiply,
)
from tilewright.sim.pim.reference import reference_run
from tilewright.sim.pim.run import run_program

N_EXAMPLES = int(os.environ.get("TILEWRIGHT_FUZZ", "10"))
thorough = settings(max_examples=N_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
AIM = load_pim("gddr6-aim").timing
BANKS = 4
ROWS = st.sampled_from([None, 0, 1])


@st.composite
def instructions(draw: st.DrawFn) -> Item:
    """Anything that a host can say, with few rows and banks, so that it meets what it left open."""
    kind = draw(st.sampled_from(["mac", "multiply", "buffer", "sums", "function", "host", "write_all", "bank"]))
    row, n = draw(ROWS), draw(st.integers(1, 8))
    if kind == "mac":
        return mac(2 * n, row)
    if kind == "multiply":
        return multiply(n, row)
    if kind == "buffer":
        return buffer_in(n)
    if kind == "sums":
        return accumulators_in() if draw(st.booleans()) else accumulators_out()
    if kind == "function":
        return Instruction(command=Command.FUNCTION_ALL, row=FUNCTION_ROW)
    if kind == "host":
        return draw(st.sampled_from([CONFIGURE, SYNC]))
    if kind == "write_all":
        return Instruction(command=Command.WRITE_ALL, row=row)
    banks = draw(st.permutations(range(BANKS)))[: draw(st.integers(1, 3))]
    command = draw(st.sampled_from([Command.READ, Command.WRITE, Command.COPY_OUT, Command.COPY_IN]))
    return access(command, banks, min(n, 4), row=row, handed_cycles=draw(st.sampled_from([None, 1, 30])))


def programs(depth: int = 2) -> st.SearchStrategy[tuple[Item, ...]]:
    items: st.SearchStrategy[Item] = instructions()
    if depth:
        items |= st.builds(Repeat, n=st.integers(1, 4), body=programs(depth - 1))
    return st.lists(items, min_size=1, max_size=3).map(tuple)


@st.composite
def timings(draw: st.DrawFn) -> PimTimingSpec:
    """Other times than any memory's: every rule may be the one that binds."""
    short = st.integers(1, 12)
    changed = {
        "burst_cycles": draw(st.integers(1, 4)),
        "activate_to_mac_cycles": draw(st.integers(1, 60)),
        "row_open_cycles": draw(st.integers(1, 90)),
        "row_cycle_cycles": draw(st.integers(0, 120)),
        "precharge_cycles": draw(st.integers(1, 40)),
        "column_long_cycles": draw(short),
        "column_short_cycles": draw(st.integers(1, 4)),
        "read_to_precharge_cycles": draw(short),
        "mode_change_cycles": draw(st.integers(1, 40)),
        "write_recovery_cycles": draw(short),
        "refresh_interval_cycles": draw(st.sampled_from([700, 901, 1333])),
    }
    return replace(AIM, **changed)


@thorough
@given(programs(1), timings(), st.booleans())
def test_a_run_in_jumps_is_the_definition(program: tuple[Item, ...], timing: PimTimingSpec, refresh: bool) -> None:
    assert run_program(program, timing, BANKS, refresh=refresh) == reference_run(
        program, timing, BANKS, refresh=refresh
    )


@thorough
@given(st.integers(1, 9), st.integers(1, 70), timings())
def test_rows_take_what_the_closed_form_says(rows: int, n: int, timing: PimTimingSpec) -> None:
    program = Repeat(n=rows, body=(mac(n),))
    assert run_program((program,), timing, BANKS).cycles == closed_form.rows_cycles(timing, rows, n)


@thorough
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 64), timings())
def test_a_product_takes_no_less_than_its_closed_form(s: int, rows: int, n: int, timing: PimTimingSpec) -> None:
    row = Repeat(n=rows, body=(accumulators_in(), mac(n), accumulators_out()))
    program = (Repeat(n=s, body=(buffer_in(n), row)),)
    assert run_program(program, AIM, BANKS).cycles == closed_form.matrix_vector_cycles(AIM, s, rows, n)
    cycles = run_program(program, timing, BANKS).cycles
    assert cycles >= closed_form.matrix_vector_cycles(timing, s, rows, n)
    assert cycles >= (s * rows - 1) * closed_form.row_cycles(timing, n)


@thorough
@given(st.integers(1, 70), timings())
def test_single_commands_take_what_their_closed_forms_say(n: int, timing: PimTimingSpec) -> None:
    assert run_program((buffer_in(n),), timing, BANKS).cycles == closed_form.buffer_write_cycles(timing, n)
    assert run_program((multiply(n),), timing, BANKS).cycles == closed_form.multiply_cycles(timing, n)


@thorough
@given(programs(1))
def test_refreshes_only_cost(program: tuple[Item, ...]) -> None:
    timing = replace(AIM, refresh_interval_cycles=900)
    with_them = run_program(program, timing, BANKS, refresh=True)
    without = run_program(program, timing, BANKS)
    assert with_them.cycles >= without.cycles
    n = with_them.commands.get(Command.REFRESH, 0)
    assert n == 0 or n * 900 <= with_them.cycles
