"""Compiled schedules: the assembler is read rightly, bank conflicts and waits count, blocks share what they must."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tilewright.cli import main
from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import calibration_of
from tilewright.hw_models.gpu.parameters import ScheduledParameters
from tilewright.hw_models.gpu.schedule import (
    CompiledSchedule,
    ScheduleTable,
    load_schedules,
    schedules_of,
    schedules_text,
)
from tilewright.hw_models.gpu.warp_trace import COLUMNS, InstructionKind, WarpTrace
from tilewright.hw_models.load import load_machine
from tilewright.kernels.assembled.addresses import shared_wavefronts
from tilewright.kernels.assembled.banks import wavefronts
from tilewright.kernels.assembled.sass import parse_sass
from tilewright.kernels.assembled.sources import source_of
from tilewright.kernels.assembled.trace import trace_of
from tilewright.kernels.measured import MeasuredTable
from tilewright.kernels.reading import read_tables
from tilewright.kernels.reading.own import placed
from tilewright.kernels.suite import configurations
from tilewright.search.gpu.energy import power_of
from tilewright.search.gpu.kept_schedules import kept_schedule
from tilewright.search.gpu.launches import launches_of, rows_of
from tilewright.search.gpu.predict import kernel_energy, predict
from tilewright.search.gpu.schedules import ScheduleKey, find_schedule
from tilewright.search.gpu.suite_schedules import schedule_keys
from tilewright.search.gpu.tilings import rank_tilings
from tilewright.sim.gpu.device import GpuDevice, gpu_device
from tilewright.sim.gpu.power import kernel_power
from tilewright.sim.gpu.scheduled import ScheduledWork, resident_blocks, scheduled_seconds
from tilewright.sim.gpu.warps import HOPPER, loop_cycles

Kind = InstructionKind
LATENCIES = (300.0, 1200.0)


@pytest.fixture
def h100() -> GpuDevice:
    return gpu_device(load_machine("h100"))


# --- banks and addresses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stride", "each", "turns"),
    [(4, 4, 1), (1, 1, 1), (128, 4, 32), (8, 4, 2), (64, 1, 16), (16, 16, 4), (128, 16, 32), (8, 8, 2)],
)
def test_lanes_of_one_bank_go_one_after_the_other(stride: int, each: int, turns: int) -> None:
    assert wavefronts(np.arange(32) * stride, each) == turns


PTX = """
.visible .entry kernel(.param .u64 a)
{
	.reg .b32 %r<9>;
	mov.u32 	%r1, %tid.x;
	shl.b32 	%r2, %r1, 2;
	mov.b32 	%r5, 0;
	ld.param.b32 	%r7, [kernel_param_0];
$L__BB0_1:
	{	// a swizzle: thread t to word t xor the trip
	xor.b32 	%r3, %r2, %r5;
	shl.b32 	%r4, %r1, 7;
	}
	st.shared.b32 	[%r3], %r1;
	st.shared.b8 	[%r4+3], %r1;
	ld.shared.v4.b32 	{%r8, %r8, %r8, %r8}, [%r2];
	add.s32 	%r5, %r5, 4;
	setp.lt.s32 	%p1, %r5, %r7;
	@%p1 bra 	$L__BB0_1;
	st.shared.b64 	[%r2], %r1;
	ret;
}
"""


def test_addresses_are_followed_through_the_loop() -> None:
    inside, outside = shared_wavefronts(PTX, [12], 4)
    assert inside["store4"] == 1 and inside["store1"] == 32
    assert inside["load16"] == 4 and outside == {"store8": 2}  # lanes that overlap share words


# --- the assembler's output -------------------------------------------------------------------------------------------


def line(place: int, text: str, *, stall: int = 1, write: int = 7, read: int = 7, wait: int = 0) -> str:
    control = stall | write << 5 | read << 8 | wait << 11
    return (
        f"        /*{place:04x}*/   {text} ;  /* 0x{0:016x} */\n"
        f"                          /* 0x{control << 41:016x} */\n"
    )


SASS = (
    line(0x00, "@P0 BRA `(.L_x_1)")
    + line(0x10, "LDS.128 R4, [R0]", write=2)
    + ".L_x_0:\n"
    + line(0x20, "LDGSTS.E.BYPASS.128 [R8], desc[UR4][R2.64], P0")
    + line(0x30, "HGMMA.64x128x16.F32 R24, gdesc[UR4].tnspB, R24, gsb0", stall=3, wait=0b000100)
    + line(0x40, "HMMA.16816.F32 R32, R20, R8, R32", stall=6)
    + line(0x50, "@!PT LDS RZ, [RZ]")
    + line(0x60, "STS.U8 [R5], R32")
    + line(0x70, "@!P5 BRA `(.L_x_0)", stall=5)
    + ".L_x_1:\n"
    + line(0x80, "STG.E.128 desc[UR4][R2.64], R32")
    + line(0x90, "EXIT")
)


def test_waits_are_read_from_the_instructions() -> None:
    code = parse_sass(SASS)
    product = code.instructions[3]
    assert (product.base, product.stall, product.wait_mask, product.write_barrier) == ("HGMMA", 3, 4, -1)
    assert code.instructions[1].write_barrier == 2
    assert code.longest_loop() == (2, 7)


def test_a_trace_holds_what_the_warps_issue() -> None:
    trace = trace_of(SASS, ({"store1": 8.0}, {}), warps=4, registers=64, spill_bytes=0, shared_bytes=1024)
    kinds = [Kind(int(row[0])) for row in trace.rows]
    assert (trace.loop_first, trace.loop_last) == (2, 7)
    loop = [Kind.COPY, Kind.PRODUCT, Kind.OLD_PRODUCT, Kind.OTHER, Kind.SHARED_STORE, Kind.OTHER]
    assert kinds[2:8] == loop and kinds[8] is Kind.STORE
    at = {name: place for place, name in enumerate(COLUMNS)}
    product, old, store = trace.rows[3], trace.rows[4], trace.rows[6]
    assert product[at["amount"]] == 64 * 128 * 16 / 4 and product[at["commits"]] == 1
    assert product[at["wavefronts"]] == (64 + 128) * 16 * 2 / 128 / 4
    assert old[at["amount"]] == 2048 and old[at["result"]] == 32
    assert store[at["wavefronts"]] == 8 and 32 in store[at["source_0"] :]
    assert trace.instructions["HGMMA.64x128x16.F32"] == 1


def test_a_kernel_without_a_loop_is_refused() -> None:
    with pytest.raises(InputError, match="has no loop"):
        trace_of(line(0, "EXIT"), ({}, {}), warps=4, registers=32, spill_bytes=0, shared_bytes=0)


# --- warps on a multiprocessor ----------------------------------------------------------------------------------------


def instruction(kind: Kind, **columns: float) -> list[float]:
    row = dict.fromkeys(COLUMNS, 0.0) | {name: -1.0 for name in COLUMNS if name.endswith("barrier") or "source" in name}
    return [(row | {"kind": float(kind), "result": -1.0, "stall": 1.0} | columns)[name] for name in COLUMNS]


def made(*loop: list[float], warps: int = 4) -> WarpTrace:
    rows = np.array([instruction(Kind.OTHER), *loop, instruction(Kind.OTHER)])
    return WarpTrace(
        rows=rows,
        loop_first=1,
        loop_last=len(loop),
        warps=warps,
        registers=64,
        spill_bytes=0,
        shared_bytes=0,
        instructions={},
    )


@pytest.mark.slow  # compiles the run of warps
def test_a_unit_that_is_full_sets_the_pace() -> None:
    integers = made(*[instruction(Kind.INTEGER)] * 100)
    one, two = (loop_cycles(integers, n_blocks, 500)[0] for n_blocks in (1, 2))
    assert one == pytest.approx(200, rel=0.02) and two == pytest.approx(400, rel=0.02)
    stores = made(*[instruction(Kind.SHARED_STORE, wavefronts=8)] * 10)
    assert loop_cycles(stores, 1, 500)[0] == pytest.approx(4 * 10 * (8 + HOPPER.shared_store), rel=0.05)


@pytest.mark.slow  # compiles the run of warps
def test_stages_hide_the_latency() -> None:
    def staged(left: int) -> float:
        copies = [instruction(Kind.COPY_WAIT, amount=left), instruction(Kind.COPY, amount=512, wavefronts=4)]
        trace = made(*copies, instruction(Kind.COPY_COMMIT), instruction(Kind.BARRIER))
        return loop_cycles(trace, 1, 900)[0]

    assert staged(0) > 900 > staged(1) > 440 > staged(2)


@pytest.mark.slow  # compiles the run of warps
def test_products_wait_for_the_tensor_cores_alone() -> None:
    def products(left: int) -> float:
        loop = [instruction(Kind.PRODUCT_ARRIVE), instruction(Kind.PRODUCT, amount=65536, commits=1)]
        return loop_cycles(made(*loop, instruction(Kind.PRODUCT_WAIT, amount=left)), 1, 500)[0]

    assert products(1) == pytest.approx(65536 / HOPPER.product_macs, rel=0.02)
    assert products(0) > products(1) + HOPPER.product_latency - 5


# --- blocks on a GPU --------------------------------------------------------------------------------------------------


def schedule(**given: object) -> CompiledSchedule:
    usual = CompiledSchedule(
        name="product",
        registers=128,
        spill_bytes=0,
        shared_bytes=64 * 1024,
        warps=4,
        instructions={},
        step_cycles=((100.0, 200.0), (150.0, 220.0), (210.0, 260.0)),
        fixed_cycles=(1000.0, 2000.0),
    )
    return replace(usual, **given)  # type: ignore[arg-type]


PARAMETERS = ScheduledParameters(
    launch_us=2, hit_cycles=300, miss_cycles=900, memory_share=0.9, cache_share=0.65, overlap_loss=0, sustained_share=1
)


def work(**given: object) -> ScheduledWork:
    usual = ScheduledWork(n_blocks=132, trips=50.0, read_bytes=1e6, written_bytes=1e6, macs=0, multiply_format="fp16")
    return replace(usual, **given)  # type: ignore[arg-type]


def seconds(device: GpuDevice, given: ScheduledWork, of: CompiledSchedule | None = None) -> float:
    return scheduled_seconds(device, PARAMETERS, of or schedule(), LATENCIES, given)[0]


def test_blocks_fit_by_registers_shared_memory_and_warps(h100: GpuDevice) -> None:
    assert resident_blocks(h100, schedule()) == 3  # 65 KiB of 228 each
    assert resident_blocks(h100, schedule(shared_bytes=0)) == 4  # 128 registers of 128 threads
    assert resident_blocks(h100, schedule(shared_bytes=0, registers=16)) == 16  # 64 warps
    assert resident_blocks(h100, schedule(shared_bytes=228 * 1024)) == 0
    assert seconds(h100, work(), schedule(shared_bytes=228 * 1024)) == np.inf


def test_waves_have_a_tail(h100: GpuDevice) -> None:
    one, full, more = (seconds(h100, work(n_blocks=n)) for n in (132, 3 * 132, 3 * 132 + 1))
    cycle = 1 / h100.clock_hz
    assert one == pytest.approx(2e-6 + 6000 * cycle)  # of small operands: hits
    assert full - one == pytest.approx(50 * 110 * cycle) and more - full == pytest.approx(6000 * cycle)


def test_blocks_of_unlike_length_are_dealt_in_order(h100: GpuDevice) -> None:
    alike = seconds(h100, work(n_blocks=264, trips=(50,) * 264))
    assert alike == pytest.approx(seconds(h100, work(n_blocks=264)), rel=0.01)
    long_first = seconds(h100, work(n_blocks=528, trips=(90,) * 264 + (10,) * 264))
    long_last = seconds(h100, work(n_blocks=528, trips=(10,) * 264 + (90,) * 264))
    assert long_first < long_last


def test_a_load_that_misses_takes_longer(h100: GpuDevice) -> None:
    assert seconds(h100, work(cold=True)) > seconds(h100, work())


# --- the table --------------------------------------------------------------------------------------------------------


def test_schedules_are_kept_as_text(tmp_path: Path) -> None:
    table = ScheduleTable(compiler="triton 0", target="sm_90", latency_cycles=LATENCIES, schedules=(schedule(),))
    path = tmp_path / "sm_90.json"
    path.write_text(schedules_text(table))
    assert load_schedules(path) == table
    with pytest.raises(ValueError, match="cycles for other latencies"):
        replace(table, latency_cycles=(1.0, 2.0, 3.0))


def test_every_measured_kernel_of_ours_has_a_schedule(h100: GpuDevice) -> None:
    table = schedules_of("sm_90")
    assert table is not None
    there = table.named()
    for measured in read_tables("h100_own"):
        if measured.family.startswith("triton"):
            for row in rows_of(measured):
                for launch in launches_of(measured, row):
                    assert launch.key is None or launch.key.name in there
    assert calibration_of(load_machine("h200")).has("scheduled", "triton_products")


def test_other_generations_have_no_schedules() -> None:
    key = ScheduleKey(kernel="softmax", numbers={"columns": 512, "warps": 4, "stages": 3})
    with pytest.raises(InputError, match=r"a100: no compiled schedules for this generation; allowed Hopper's"):
        find_schedule(gpu_device(load_machine("a100")), key)
    with pytest.raises(InputError, match=r'"sofmax".*softmax'):
        source_of("sofmax", {})


# --- the command ------------------------------------------------------------------------------------------------------


def said(capsys: pytest.CaptureFixture[str], *texts: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(("schedules", *texts))
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


def test_the_command_ranks_tilings(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "product-fp16:m=1024,n=4096,k=4096", "-a", "h100", "--json", "-")
    assert code == 0
    tilings = json.loads(out)["tilings"]
    assert len(tilings) == 37 and tilings[0]["tiles"]["n"] == 256
    assert [each["seconds"] for each in tilings] == sorted(each["seconds"] for each in tilings)


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (("product-fp16:m=64,n=64", "-a", "h100"), "product-fp16: shape given as m, n; allowed m, n, k"),
        (("product-fp16:m=64,n=64,k=x", "-a", "h100"), '"k=x" is no size; allowed for example m=4096'),
        (("product-fp61:m=64", "-a", "h100"), 'did you mean "product-fp16"?'),
        (("product-fp16:m=64,n=64,k=64", "-a", "a100"), "a100: no compiled schedules for this generation"),
        (("product-fp16:m=64,n=64,k=64", "-a", "edge-16x16"), "edge-16x16: is not a GPU"),
        (("attention:heads=8,queries=64,keys=64,head_dim=80", "-a", "h100"), "no tilings are compiled for dim=80"),
        (("product-fp16:m=64,n=64,k=64", "-a", "h100", "--tile", "m=100"), "tile m: given 100; allowed 16, 32"),
        (("product-fp16:m=64,n=64,k=64", "-a", "h100", "--tile", "q=64"), 'unknown tile; given "q"'),
        (("-a", "h100"), "give a kernel with its shape, or --output"),
    ],
)
def test_the_command_says_what_it_cannot_do(
    capsys: pytest.CaptureFixture[str], texts: tuple[str, ...], complaint: str
) -> None:
    code, out, err = said(capsys, *texts)
    assert code == 2 and not out and complaint in err


def test_what_is_compiled_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path))
    made: list[str] = []

    def make() -> CompiledSchedule:
        made.append("once")
        return schedule()

    for _ in range(2):
        assert kept_schedule("product", "triton 0", "sm_90", LATENCIES, make) == schedule()
    assert len(made) == 1
    (place,) = tmp_path.glob("schedules/*.json")
    place.write_text("half of")
    assert kept_schedule("product", "triton 0", "sm_90", LATENCIES, make) == schedule() and len(made) == 2
    kept_schedule("product", "triton 1", "sm_90", LATENCIES, make)
    assert len(made) == 3


# --- lists and scans --------------------------------------------------------------------------------------------------


def test_tilings_of_the_suites_of_lists_and_scans_are_in_the_table() -> None:
    table = schedules_of("sm_90")
    assert table is not None
    wanted = {key.name for key in schedule_keys(configurations(["sparse", "scan"]))}
    assert len(wanted) >= 40
    assert wanted <= set(table.named())


def _suite_table(suite: str, kernel: str) -> MeasuredTable:
    """The suite's tilings of one kernel for its first shape, as if each had taken a millisecond."""
    those = [one for one in configurations([suite]) if one.kernel == kernel]
    those = [one for one in those if one.shape == those[0].shape]
    places = [placed(one) for one in those]
    columns = {name: np.array([shape[name] for _, _, shape in places], dtype=np.int64) for name in places[0][2]}
    columns |= {f"tile_{name}": np.array([one.tiles[name] for one in those], dtype=np.int64) for name in those[0].tiles}
    operator, family, _ = places[0]
    return MeasuredTable(
        name=kernel, operator=operator, family=family, device="h100", columns=columns,
        seconds=np.full(len(those), 1e-3), source="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("suite", "kernel"),
    [("scan", "triton_ssd_persistent"), ("scan", "triton_ssd_chunked"), ("sparse", "triton")],
)
def test_lists_and_scans_take_time_and_energy(h100: GpuDevice, suite: str, kernel: str) -> None:
    """Never less than their products and bytes at full rate take; energy of each row within the board's limit."""
    table, machine = _suite_table(suite, kernel), load_machine("h100")
    found = predict(h100, calibration_of(machine), table)
    assert found.activity is not None
    (macs,) = found.activity.macs.values()
    runs = np.isfinite(found.seconds)  # tilings of which a multiprocessor holds no block take for ever
    assert runs.sum() >= 0.8 * len(table)
    least = np.maximum(
        macs / (h100.macs("fp16") * h100.clock_hz * h100.n_sms), found.activity.dram_bytes / h100.dram_bytes_per_s
    )
    assert (found.seconds[runs] >= 0.99 * least[runs]).all()
    power = power_of(h100, calibration_of(machine))
    drawn = kernel_power(
        power, found.activity.rows(runs), found.seconds[runs], limit_w=h100.power_limit_w,
        core_bound=found.bound[runs] == 1,
    )  # fmt: skip
    assert (drawn.watts > power.parameters.static_w).all() and (drawn.watts <= 1.001 * h100.power_limit_w).all()


def test_tilings_of_a_scan_are_ranked() -> None:
    shape = {"tokens": 2048, "heads": 24, "key_dim": 128, "value_dim": 64}
    for kernel, n in (("ssd-persistent", 12), ("ssd-chunked", 8)):
        ranked = rank_tilings(load_machine("h100"), kernel, shape)
        assert 0 < len(ranked) <= n and ranked[0].seconds < ranked[-1].seconds
    lists = {"heads": 8, "queries": 1024, "keys": 1024, "head_dim": 64}
    few, many = (
        rank_tilings(load_machine("h100"), "block-sparse-attention", lists | {"kept_per_mille": kept})[0].seconds
        for kept in (100, 500)
    )
    assert few < many


_HEADS = {"batch": 1, "heads": 32, "key_dim": 128, "value_dim": 128}


@pytest.mark.parametrize(
    ("operator", "family", "shape"),
    [
        ("scan", "gdn_flashinfer", _HEADS | {"tokens": 8192, "key_heads": 16}),
        ("scan", "kda_fla", _HEADS | {"tokens": 8192, "key_heads": 32}),
        ("state_step", "gdn_step", {"batch": 64, "heads": 32, "key_heads": 16, "key_dim": 128, "value_dim": 128}),
        ("short_conv", "conv_last", {"batch": 1, "tokens": 8192, "channels": 8192}),
        ("token_top_k", "dsa_attention", {"batch": 1, "queries": 4096, "cached": 8192}),
        ("token_top_k", "dsa_indexer", {"batch": 1, "queries": 4096, "cached": 8192}),
        ("block_lists", "flex_blocks", {"batch": 1, "heads": 24, "queries": 17408, "head_dim": 64, "row_tokens": 128,
                                        "block": 128, "mean_milli": 13600, "longest": 14}),
    ],
)  # fmt: skip
def test_closed_forms_of_sequences_say_energy(operator: str, family: str, shape: dict[str, int]) -> None:
    found = kernel_energy(load_machine("h100"), operator, family, **shape)
    assert 60 < found.watts <= 700
    assert found.joules == pytest.approx(sum(found.joules_by_part.values()))
    assert found.joules == pytest.approx(found.watts * found.seconds)


# --- the compiler -----------------------------------------------------------------------------------------------------

AGAIN = """
import json
from tilewright.kernels.assembled.compiler import compiled_trace, compiler_name
from tilewright.kernels.assembled.sources import source_of
trace = compiled_trace(source_of("product fp16", {"m": 128, "n": 128, "k": 64, "stages": 4, "warps": 8}))
print(json.dumps([compiler_name(), trace.registers, trace.shared_bytes, trace.instructions]))
"""


@pytest.mark.extras
def test_the_compiler_makes_the_schedule_again(h100: GpuDevice) -> None:
    """Registers hang on the compiler's version; shared memory and products hardly do."""
    pytest.importorskip("triton", reason="triton is not installed: pip install 'tilewright[gpu]'")
    numbers = {"m": 128, "n": 128, "k": 64, "stages": 4, "warps": 8}
    known, _ = find_schedule(h100, ScheduleKey(kernel="product fp16", numbers=numbers))
    # In a process of its own: where kernels are interpreted, as in the tests beside this one, none can be compiled.
    plain = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    said = subprocess.run([sys.executable, "-c", AGAIN], env=plain, capture_output=True, text=True, check=True)
    compiler, registers, shared_bytes, instructions = json.loads(said.stdout)
    assert shared_bytes == pytest.approx(known.shared_bytes, rel=0.1)
    products = {name for name in instructions if name.startswith("HGMMA")}
    assert products and products == {name for name in known.instructions if name.startswith("HGMMA")}
    table = schedules_of("sm_90")
    if table is not None and compiler == table.compiler:
        assert registers == known.registers and instructions == dict(known.instructions)
