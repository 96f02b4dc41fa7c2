"""Do the cost models obey their laws: bounds, monotone answers, one meaning however the work is cut?"""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.hw_models import dram, row_buffer
from tilewright.hw_models.dram_grades import RowTimingSpec, grade_names, row_timing
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.matrix_unit import product
from tilewright.hw_models.spec import OPERATION_KINDS, MatrixUnitSpec, VectorUnitSpec
from tilewright.hw_models.vector_unit import vector_cycles

extents = st.integers(1, 300)
rates = st.sampled_from((0.25, 0.5, 1.0, 2.0, 4.0, 0.1))
stationarities = st.sampled_from(("output", "weight", "input", "flexible"))
fill_drains = st.sampled_from(("per_pass", "per_command", "hidden", "scale_sim"))


@st.composite
def arrays(draw: st.DrawFn, fill_drain: str | None = None) -> MatrixUnitSpec:
    return MatrixUnitSpec(
        rows=draw(st.integers(1, 40)),
        columns=draw(st.integers(1, 40)),
        stationarity=draw(stationarities),  # type: ignore[arg-type]
        fill_drain=fill_drain or draw(fill_drains),  # type: ignore[arg-type]
        multiplies_per_pe_per_cycle={"fp16": draw(rates)},
    )


def changed(unit: MatrixUnitSpec, **changes: object) -> MatrixUnitSpec:
    fields = {name: getattr(unit, name) for name in unit.__slots__}
    return MatrixUnitSpec(**(fields | changes))


@given(unit=arrays(), m=extents, k=extents, n=extents)
def test_no_product_is_faster_than_its_multiplies(unit: MatrixUnitSpec, m: int, k: int, n: int) -> None:
    cost = product(unit, m, k, n, "fp16")
    peak = unit.rows * unit.columns * Fraction(str(unit.multiplies_per_pe_per_cycle["fp16"]))
    assert cost.macs == m * k * n
    assert cost.cycles >= cost.macs / peak
    assert cost.cycles - cost.fill_drain_cycles >= cost.macs / peak
    assert cost.read_elements_a >= m * k
    assert cost.read_elements_b >= k * n
    assert cost.write_elements == m * n + cost.read_partial_elements


@given(unit=arrays(), m=extents, k=extents, n=extents)
def test_fill_and_drain_only_add(unit: MatrixUnitSpec, m: int, k: int, n: int) -> None:
    cycles = [
        product(changed(unit, fill_drain=way), m, k, n, "fp16").cycles for way in ("hidden", "per_command", "per_pass")
    ]
    assert cycles == sorted(cycles)


@given(unit=arrays("hidden"), m=extents, k=extents, n=extents, more=st.integers(1, 30))
def test_a_larger_or_faster_array_is_not_slower(unit: MatrixUnitSpec, m: int, k: int, n: int, more: int) -> None:
    before = product(unit, m, k, n, "fp16").cycles
    assert product(changed(unit, rows=unit.rows + more), m, k, n, "fp16").cycles <= before
    assert product(changed(unit, columns=unit.columns + more), m, k, n, "fp16").cycles <= before
    twice = {"fp16": 2 * unit.multiplies_per_pe_per_cycle["fp16"]}
    assert product(changed(unit, multiplies_per_pe_per_cycle=twice), m, k, n, "fp16").cycles <= before


@given(unit=arrays(), m=extents, k=extents, n=extents, more=st.integers(1, 100))
def test_more_work_is_not_faster(unit: MatrixUnitSpec, m: int, k: int, n: int, more: int) -> None:
    before = product(unit, m, k, n, "fp16").cycles
    assert product(unit, m + more, k, n, "fp16").cycles >= before
    assert product(unit, m, k + more, n, "fp16").cycles >= before
    assert product(unit, m, k, n + more, "fp16").cycles >= before


@given(unit=arrays(), m=extents, k=extents, n=extents)
def test_flexible_is_the_best_of_three(unit: MatrixUnitSpec, m: int, k: int, n: int) -> None:
    fixed = [
        product(changed(unit, stationarity=kind), m, k, n, "fp16").cycles for kind in ("output", "weight", "input")
    ]
    assert product(changed(unit, stationarity="flexible"), m, k, n, "fp16").cycles == min(fixed)


@given(
    lanes=st.integers(1, 300),
    cycles=st.lists(st.integers(0, 9), min_size=6, max_size=6),
    work=st.lists(st.tuples(st.sampled_from(OPERATION_KINDS), st.integers(1, 5000)), max_size=5),
    more=st.integers(1, 300),
    reduces=st.booleans(),
)
def test_vector_laws(lanes: int, cycles: list[int], work: list[tuple[str, int]], more: int, reduces: bool) -> None:
    def unit(n_lanes: int) -> VectorUnitSpec:
        return VectorUnitSpec(
            lanes=n_lanes,
            cycles=dict(zip(OPERATION_KINDS, cycles, strict=True)),
            startup_cycles=3,
            reduction_depth_cycles=5,
        )

    one = unit(lanes)
    taken = vector_cycles(one, work, reduces=reduces)
    assert taken >= max(1, sum(Fraction(n, lanes) * one.cycles[kind] for kind, n in work))
    assert vector_cycles(unit(lanes + more), work, reduces=reduces) <= taken
    assert vector_cycles(one, [*work, ("exp", more)], reduces=reduces) >= taken
    assert vector_cycles(one, work, reduces=True) - vector_cycles(one, work, reduces=False) == 5


# --- DRAM ------------------------------------------------------------------------------------------------------------

runs = st.tuples(st.integers(1, 60), st.integers(1, 5000), st.integers(0, 20_000)).map(
    lambda drawn: (drawn[0], drawn[1], drawn[1] + drawn[2])
)


@st.composite
def timings(draw: st.DrawFn) -> RowTimingSpec:
    """Small geometries, so that patterns repeat soon."""
    burst_length = draw(st.sampled_from((8, 16)))
    turn = 2 * burst_length * draw(st.sampled_from((1, 2)))
    time = st.integers(0, 80)
    return RowTimingSpec(
        grade="drawn",
        data_rate_mt_per_s=2000,
        channel_width_bits=16,
        burst_length=burst_length,
        beats_per_clock=2,
        n_banks=draw(st.integers(1, 8)),
        row_bytes=turn * draw(st.sampled_from((1, 2, 4))),
        trcd_ns=draw(time),
        trp_ns=draw(time),
        tras_ns=draw(time),
        tcl_ns=15,
        trtp_ns=draw(time),
        trrd_ns=draw(time),
        tfaw_ns=draw(st.integers(0, 200)),
        trfc_ns=draw(st.sampled_from((0, 100, 300))),
        trefi_ns=1000,
        interleave_bytes=turn,
        rows_ahead=draw(st.integers(1, 6)),
    )


@settings(max_examples=60)
@given(
    timing=timings(),
    gb_per_s=st.sampled_from((3.0, 4.0, 10.0)),
    n_runs=st.integers(2, 700),
    run_bytes=st.integers(1, 300),
    gap=st.integers(1, 40).map(lambda n: 16 * n),
)
def test_skipping_periods_changes_nothing(
    timing: RowTimingSpec, gb_per_s: float, n_runs: int, run_bytes: int, gap: int
) -> None:
    stride = -(-run_bytes // 16) * 16 + gap
    clocks = row_buffer._in_clocks(timing, gb_per_s)
    channels = [row_buffer._Channel(clocks) for _ in range(clocks.n_channels)]
    for run in range(n_runs):
        n_bursts = -(-run_bytes // clocks.burst_bytes)
        row_buffer._serve_run(clocks, channels, run * stride // clocks.burst_bytes, n_bursts)
    cost = row_buffer.tile(timing, gb_per_s, n_runs, run_bytes, stride)
    assert cost.clocks == max(channel.bus_free for channel in channels) - clocks.rcd
    assert cost.n_activations == sum(channel.n_activations for channel in channels)


@settings(max_examples=60)
@given(timing=timings(), tile=runs, gb_per_s=st.sampled_from((3.0, 4.0, 10.0)))
def test_the_bus_never_exceeds_its_peak(timing: RowTimingSpec, tile: tuple[int, int, int], gb_per_s: float) -> None:
    n_runs, run_bytes, stride = tile
    cost = row_buffer.tile(timing, gb_per_s, n_runs, run_bytes, stride)
    share = Fraction(str(timing.trefi_ns)) / Fraction(str(timing.trefi_ns - timing.trfc_ns))
    assert cost.occupancy_bytes >= n_runs * run_bytes * share
    assert 1 <= cost.n_activations <= n_runs * (-(-run_bytes // timing.burst_bytes) + 1)


@settings(max_examples=60)
@given(grade=st.sampled_from(grade_names()), gb_per_s=st.sampled_from((0.5, 3.3, 6.4)), tile=runs)
def test_scattered_is_not_faster_than_in_a_row(grade: str, gb_per_s: float, tile: tuple[int, int, int]) -> None:
    # on one channel: a few runs that fall on several channels can beat the same bytes in one
    n_runs, run_bytes, stride = tile
    timing = row_timing(grade)
    burst = timing.burst_bytes
    whole = -(-run_bytes // burst) * burst
    scattered = row_buffer.tile(timing, gb_per_s, n_runs, run_bytes, max(stride, whole))
    in_a_row = row_buffer.tile(timing, gb_per_s, 1, n_runs * whole, n_runs * whole)
    assert scattered.clocks >= in_a_row.clocks
    assert scattered.n_activations >= in_a_row.n_activations


@settings(max_examples=60)
@given(tile=runs, faster=st.floats(1.0, 8.0), detail=st.sampled_from(("bandwidth", "row_buffer")))
def test_a_transfer_keeps_its_promises(tile: tuple[int, int, int], faster: float, detail: str) -> None:
    n_runs, run_bytes, stride = tile
    machine = load_machine("edge-16x16").with_(**{"dram.detail": detail})
    cost = dram.transfer(machine, n_runs=n_runs, run_bytes=run_bytes, stride_bytes=stride)
    assert cost.occupancy_bytes >= cost.n_bytes >= n_runs * run_bytes
    assert cost.n_bytes % machine.dram.burst_bytes == 0
    assert cost.n_activations >= 1
    more = dram.transfer(machine, n_runs=n_runs + 1, run_bytes=run_bytes, stride_bytes=stride)
    assert more.occupancy_bytes >= cost.occupancy_bytes
    if detail == "bandwidth":
        quick = machine.with_(**{"dram.bandwidth_gb_per_s": 30 * faster})
        other = dram.transfer(quick, n_runs=n_runs, run_bytes=run_bytes, stride_bytes=stride)
        assert other.occupancy_bytes / dram.bytes_per_cycle(quick) <= cost.occupancy_bytes / dram.bytes_per_cycle(
            machine
        )


@settings(max_examples=30)
@given(gb_per_s=st.floats(0.001, 1e6), clock_ghz=st.floats(0.001, 100))
def test_the_rate_is_that_of_the_decimals(gb_per_s: float, clock_ghz: float) -> None:
    machine = load_machine("edge-16x16").with_(**{"dram.bandwidth_gb_per_s": gb_per_s, "clock_ghz": clock_ghz})
    assert dram.bytes_per_cycle(machine) * Fraction(str(clock_ghz)) == Fraction(str(gb_per_s))
