"""Laws of power on a GPU: never above the limit, parts add up, and a higher limit never makes anything slower."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.hw_models.gpu.power import PowerParameters, PowerSpec
from tilewright.sim.gpu.activity import Activity, total
from tilewright.sim.gpu.power import kernel_power

amounts = st.floats(0, 5e13)
boards = st.builds(
    lambda static, multiply, l2, dram, slope, share, limit: PowerSpec(
        device="some",
        kind="assumed",
        limit_w=limit,
        parameters=PowerParameters(
            static_w=static,
            multiply_pj={"bf16": multiply},
            lane_pj=1.0,
            l2_pj_per_byte=l2,
            dram_pj_per_byte=dram,
            voltage_slope=slope,
            limit_share=share,
        ),
    ),
    st.floats(10, 150),
    st.floats(0.1, 10),
    st.floats(0, 100),
    st.floats(0, 100),
    st.floats(0.05, 1.3),
    st.floats(0.8, 1),
    st.floats(250, 1000),
)
works = st.builds(
    lambda macs, l2, dram, lanes: Activity(
        macs={"bf16": np.array([macs * 10])},
        dram_bytes=np.array([dram]),
        l2_bytes=np.array([l2]),
        lane_operations=np.array([lanes]),
    ),
    amounts,
    amounts,
    amounts,
    amounts,
)
limits = st.lists(st.floats(250, 1500), min_size=2, max_size=4)


@settings(max_examples=60, deadline=None)
@given(board=boards, work=works, seconds=st.floats(1e-6, 10), bound=st.booleans(), given_limits=limits)
def test_power_is_below_the_limit_and_a_higher_one_is_never_slower(
    board: PowerSpec, work: Activity, seconds: float, bound: bool, given_limits: list[float]
) -> None:
    times = np.array([seconds])
    before = np.inf
    for limit_w in sorted(given_limits):
        found = kernel_power(board, work, times, limit_w=limit_w, core_bound=np.array([bound]))
        assert found.watts[0] <= limit_w * (1 + 1e-9)
        assert sum(joules[0] for joules in found.joules.values()) <= found.watts[0] * found.seconds[0] * (1 + 1e-9)
        assert found.seconds[0] <= before * (1 + 1e-6)
        assert 0 < found.clock_share[0] <= 1
        before = found.seconds[0]


@settings(max_examples=40, deadline=None)
@given(board=boards, work=works, other=works, seconds=st.floats(1e-6, 10))
def test_more_work_in_the_same_time_never_draws_less(
    board: PowerSpec, work: Activity, other: Activity, seconds: float
) -> None:
    times, bound = np.array([seconds]), np.array([True])
    less, more = (
        kernel_power(board, done, times, limit_w=board.limit_w, core_bound=bound)
        for done in (work, total([work, other]))
    )
    assert more.watts[0] >= less.watts[0] * (1 - 1e-9)
    assert more.clock_share[0] <= less.clock_share[0] * (1 + 1e-9)
