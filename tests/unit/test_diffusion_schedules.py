"""Does a schedule over steps say which blocks run when, what is kept between steps, and what a step then is?"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import pytest

from tilewright.errors import InputError
from tilewright.workloads.diffusion.blocks import NetworkBlocks, network_blocks
from tilewright.workloads.diffusion.features import plan_steps
from tilewright.workloads.diffusion.kind import SCHEDULES, make_schedule
from tilewright.workloads.diffusion.step import Schedule, Step, cells
from tilewright.workloads.diffusion.streams import flops_of, product_macs, step_stream
from tilewright.workloads.diffusion.time_tables import with_time_tables
from tilewright.workloads.network import load_network
from tilewright.workloads.stream.graph import OperatorStream

ROWS = 256 * 1152 * 2  # bytes of the hidden rows of DiT-XL/2 at 256 pixels


@lru_cache
def dit() -> NetworkBlocks:
    return network_blocks(load_network("dit-xl-2"))


@lru_cache
def u_net() -> NetworkBlocks:
    return network_blocks(load_network("sd-1.5-unet:image=64"))


def full_steps(text: str, n_steps: int) -> list[int]:
    schedule = make_schedule(text, dit(), n_steps)
    return [at for at, step in enumerate(schedule.steps) if step.kind == "full"]


def stream_at(schedule: Schedule, at: int, network: NetworkBlocks) -> OperatorStream:
    stream = step_stream(network.stream, plan_steps(network, schedule)[at]).stream
    assert stream is not None
    return stream


def test_blocks_and_parts_come_from_the_paths() -> None:
    assert dit().names == tuple(f"blocks.{index}" for index in range(28))
    block = dit().blocks[3]
    assert [name.removeprefix("blocks.3.") for name in block.of("mlp")] == [
        "norm2", "modulate2.scale", "modulate2", "mlp.up", "mlp.gelu_tanh", "mlp.down",
    ]  # fmt: skip
    assert "blocks.3.half1.gate" in block.of("rest")
    assert len(block.operators) == 20
    assert u_net().names[:3] == ("down.0.residual0", "down.0.attention0", "down.0.residual1")
    with pytest.raises(InputError, match=r'unknown block; given "blocks.33".*did you mean "blocks.'):
        dit().block("blocks.33")


def test_single_blocks_of_flux_are_one_branch() -> None:
    flux = network_blocks(load_network("flux-dev:image=64,text=8"))
    assert len(flux.blocks) == 57
    assert set(flux.blocks[-1].parts) == {"attention", "rest"}
    assert set(flux.blocks[0].parts) == {"attention", "mlp", "rest"}


def test_blocks_of_networks_that_make_videos() -> None:
    hunyuan = network_blocks(load_network("hunyuan-video:frames=1,height=64,width=64"))
    assert {name.rpartition(".")[2] for name in hunyuan.blocks[-1].of("rest")} == {"silu", "modulation", "gate", "add"}
    sana = network_blocks(load_network("sana-1.6b:height=256,width=256"))
    assert set(sana.blocks[0].parts) == {"attention", "cross_attention", "mlp", "rest"}


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("dbcache:F=1,W=8,I=4,MC=10", [0, 4, 15, 26, 37, 48]),
        ("dbcache:F=1,W=16,I=4,MC=8", [0, 4, 8, 12, 21, 30, 39, 48]),
        ("dbcache:F=1,W=3,full=5", [0, 1, 2, 18, 34]),
        ("fora:N=10", [0, 10, 20, 30, 40]),
        ("taylorseer:N=10,first=3", [0, 1, 2, 12, 22, 32, 42]),
        ("teacache:full=2", [0, 25]),
        ("lcm", list(range(50))),
    ],
)
def test_which_steps_are_full(text: str, full: list[int]) -> None:
    assert full_steps(text, 50) == full


def test_every_method_has_a_schedule(tmp_path: Path) -> None:
    router = tmp_path / "router.csv"
    rows = [f"{step},{layer},1,{(step + 1) % 2}" for step in range(4) for layer in range(28)]
    router.write_text("\n".join(["timestep_index,layer,attention_computed,mlp_computed", *rows]))
    table = tmp_path / "similarities.json"
    units = [{"name": f"blocks.{index}.mlp", "change": [0.1, 0.3, 0.1]} for index in (2, 1)]
    table.write_text(json.dumps({"schema": "tilewright.step_similarity", "version": 1, "steps": 4, "units": units}))
    options = {"bac": f":updates=2,similarity={table}", "teacache": ":full=2", "learning_to_cache": f":router={router}"}
    for name in SCHEDULES.names():
        network = u_net() if name in ("deepcache", "tgate") else dit()
        schedule = make_schedule(name + options.get(name, ""), network, 4)
        assert len(schedule.steps) == 4
        assert plan_steps(network, schedule)[0].runs
    learned = make_schedule(f"learning_to_cache:router={router}", dit(), 4)
    assert [step.kind for step in learned.steps] == ["full", "cached", "full", "cached"]


def test_steps_are_chosen_from_similarities(tmp_path: Path) -> None:
    table = tmp_path / "similarities.json"
    changes = {"blocks.2.mlp": [0.0, 0.5, 0.0], "blocks.1.mlp": [0.5, 0.0, 0.0]}
    units = [{"name": name, "change": change} for name, change in changes.items()]
    table.write_text(json.dumps({"schema": "tilewright.step_similarity", "version": 1, "steps": 4, "units": units}))

    def computed(text: str, unit: tuple[str, str]) -> list[int]:
        return [at for at, step in enumerate(make_schedule(text, dit(), 4).steps) if unit not in step.cached]

    bac = f"bac:updates=2,similarity={table}"
    assert computed(bac, ("blocks.2", "mlp")) == [0, 2]
    assert computed(bac, ("blocks.1", "mlp")) == [0, 1, 2]  # joins the block behind it
    assert computed(f"{bac},join=0", ("blocks.1", "mlp")) == [0, 1]
    assert full_steps("cachequant:N=4", 12) == [0, 4, 8]
    grouped = make_schedule(f"cachequant:N=2,similarity={table}", dit(), 4)
    assert [step.kind for step in grouped.steps] == ["full", "cached", "full", "cached"]
    assert len(grouped.steps[1].cached) == 14
    with pytest.raises(InputError, match="is of 4 steps; allowed 5"):
        make_schedule(bac, dit(), 5)


def test_parts_are_broadcast_each_at_its_own_interval() -> None:
    pixart = network_blocks(load_network("pixart-alpha:image=64,text=8"))
    steps = make_schedule("pab:attention=2,cross=3,first=2,last=8", pixart, 9).steps
    parts = [sorted({part for _, part in step.cached}) for step in steps]
    attention, cross = "attention", "cross_attention"
    assert parts == [[], [], [attention, cross], [cross], [attention], [cross], [attention, cross], [], []]


def test_distances_decide_by_threshold_and_by_their_sum(tmp_path: Path) -> None:
    path = tmp_path / "distances.csv"
    path.write_text("step,distance\n" + "\n".join(f"{at},{0.1 * (at % 4)}" for at in range(12)))
    assert full_steps(f"dbcache:F=1,W=1,distances={path},R=0.25", 12) == [0, 3, 7, 11]
    # sums: 0.1+0.2+0.3 at 3; then 0+0.1+0.2+0.3 at 7
    assert full_steps(f"teacache:distances={path},threshold=0.55", 12) == [0, 3, 7, 11]


def test_a_full_step_is_the_network() -> None:
    schedule = make_schedule("full", dit(), 2)
    stream = stream_at(schedule, 1, dit())
    assert stream.operators == dit().stream.operators
    assert stream.macs == dit().stream.macs
    assert all(not plan.kept_bytes for plan in plan_steps(dit(), schedule))


def test_a_cached_step_runs_its_blocks_and_adds_what_the_others_changed() -> None:
    schedule = make_schedule("dbcache:F=2,B=1,W=1", dit(), 3)
    first, second, _ = plan_steps(dit(), schedule)
    assert first.kept_bytes == second.kept_bytes == ROWS
    stream = stream_at(schedule, 1, dit())
    blocks = {name.split(".")[1] for name in (op.name for op in stream.operators) if name.startswith("blocks.")}
    assert {"0", "1", "27"} <= blocks
    assert not blocks & {str(index) for index in range(2, 26)}
    (apply,) = [op for op in stream.operators if op.name.endswith("apply.cache")]
    assert apply.inputs == ("blocks.26.half2.add.out.kept0", "blocks.1.half2.add.out")
    per_block = sum(op.macs for op in dit().stream.operators if op.name.startswith("blocks.5."))
    assert dit().stream.macs - stream.macs == 25 * per_block
    leaves = step_stream(dit().stream, first)
    assert leaves.write_bytes == ROWS
    assert leaves.read_bytes == 0
    assert flops_of(stream) > 2 * stream.macs > 2 * product_macs(stream)


def test_parts_keep_their_results_and_the_rest_runs() -> None:
    schedule = make_schedule("fora:N=2", dit(), 4)
    plans = plan_steps(dit(), schedule)
    assert [plan.kept_bytes for plan in plans] == [56 * ROWS, 56 * ROWS, 56 * ROWS, 56 * ROWS]
    stream = stream_at(schedule, 1, dit())
    assert not any(op.kind == "attention" for op in stream.operators)
    assert sum(op.name.endswith("modulation") for op in stream.operators) == 29
    # nothing is kept behind the last step that reads it
    assert plan_steps(dit(), make_schedule("fora:N=2", dit(), 3))[2].kept_bytes == 0


def test_a_taylor_series_keeps_differences_and_extrapolates() -> None:
    schedule = make_schedule("taylorseer:N=2,O=2,first=1", dit(), 8)
    kept = [plan.kept_bytes // ROWS for plan in plan_steps(dit(), schedule)]
    assert kept == [56, 56, 112, 112, 168, 168, 168, 168]
    last = stream_at(schedule, 7, dit())
    assert sum("extrapolate" in op.name for op in last.operators) == 2 * 56
    assert sum("difference" in op.name for op in stream_at(schedule, 6, dit()).operators) == 2 * 56


def test_skipped_steps_run_nothing_and_take_the_last_result() -> None:
    schedule = Schedule(method="own", steps=(Step(), Step(skipped=True), Step(skipped=True), Step()))
    plans = plan_steps(dit(), schedule)
    result = dit().stream.base(dit().stream.outputs[0]).n_bytes
    assert [plan.kept_bytes for plan in plans] == [result, result, result, 0]
    assert step_stream(dit().stream, plans[1]).stream is None


def test_blocks_behind_a_cached_one_go_on_with_its_kept_result() -> None:
    cached = Step(cached=cells(["blocks.4"]))
    plans = plan_steps(dit(), Schedule(method="own", steps=(Step(), cached)))
    assert [one.tensor for one in plans[1].takes] == ["blocks.4.half2.add.out"]
    # what only the cached block reads does not run, either: the blocks before it
    assert not any(name.startswith("blocks.3.") for name in plans[1].runs)


def test_deepcache_runs_the_shallow_end() -> None:
    schedule = make_schedule("deepcache:N=2", u_net(), 2)
    runs = plan_steps(u_net(), schedule)[1].runs
    blocks = {block.name for block in u_net().blocks if runs & set(block.operators)}
    assert blocks == {
        "down.0.residual0", "down.0.attention0", "up.3.concat1", "up.3.residual1", "up.3.attention1", "up.3.concat2",
        "up.3.residual2", "up.3.attention2",
    }  # fmt: skip


def test_time_is_read_from_tables() -> None:
    tables = with_time_tables(u_net().stream)
    assert "time.linear1" in tables.removed
    assert "down.0.residual0.time" in tables.removed
    rows = [op for op in u_net().stream.operators if op.name.endswith(".time")]
    assert tables.row_bytes == 2 * sum(u_net().stream.tensor(op.outputs[0]).n_elements for op in rows)
    assert len(rows) == 22
    assert tables.table_bytes(20) == 20 * tables.row_bytes
    assert not any(op.name.startswith("time.") for op in tables.stream.operators)
    assert tables.stream.macs < u_net().stream.macs


def test_files_say_step_by_step_what_is_computed(tmp_path: Path) -> None:
    table = tmp_path / "own.csv"
    table.write_text("step,block,part,computed\n1,blocks.0,mlp,0\n1,blocks.1,,0\n0,blocks.0,mlp,1\n")
    schedule = make_schedule(str(table), dit(), 2)
    assert schedule.steps[1].cached == {("blocks.0", "mlp"), ("blocks.1", "")}
    listed = tmp_path / "own.json"
    listed.write_text('[{}, {"cached": ["blocks.0.mlp"], "how": "taylor"}, {"skipped": true}]')
    steps = make_schedule(str(listed), dit(), 3).steps
    assert [step.kind for step in steps] == ["full", "cached", "skipped"]
    assert steps[1].order == 1


@pytest.mark.parametrize(
    ("text", "n_steps", "message"),
    [
        ("dbcach", 4, 'unknown schedule; given "dbcach".*did you mean "dbcache"'),
        ("dbcache:G=1", 4, 'unknown option; given "G"'),
        ("dbcache:F=20,B=8", 4, "F and B: given 20 and 8, and dit-xl-2 has 28 blocks; allowed less than 28 together"),
        ("delta_dit:blocks=29", 4, r'blocks: given "29"; allowed 0 to 28 \(blocks\)'),
        ("fora:N=0", 4, 'N: given "0"; allowed a whole number of at least 1'),
        ("dbcache:full=9", 4, r'full: given "9"; allowed 1 to 4 \(steps\)'),
        ("teacache", 4, "full: missing"),
        ("bac", 4, "similarity: missing"),
        ("tgate", 4, "dit-xl-2 has no cross-attention"),
        ("deepcache", 4, "is no U-Net"),
        ("learning_to_cache", 4, "router: missing"),
        ("nowhere.csv", 4, "nowhere.csv: no such file"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(text: str, n_steps: int, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make_schedule(text, dit(), n_steps)
    assert len(caught.value.args) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("step,block,computed\n1,block.0,0\n", 'own.csv:2: block: unknown block; given "block.0".*mean "blocks.0"'),
        ("step,block,computed\n7,blocks.0,0\n", 'own.csv:2: step: given "7"; allowed 0 to 3'),
        ("step,block,computed\n1,blocks.0,maybe\n", 'computed: given "maybe"; allowed 0, 1'),
        ("step,block,part,computed\n1,blocks.0,mpl,0\n", 'unknown part; given "mpl".*did you mean "mlp"'),
        ("step,blok,computed\n", "has no column block"),
        (
            "step,block,part,computed\n1,blocks.0,cross_attention,0\n",
            "blocks.0 has no cross_attention; allowed attention",
        ),
        ("step,block,computed\n0,blocks.0,0\n", "step 0 takes the result of blocks.0 from an earlier step"),
    ],
)
def test_files_that_do_not_fit_name_their_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        plan_steps(dit(), make_schedule(str(path), dit(), 4))
