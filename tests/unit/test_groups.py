"""Unlike groups of cores in one machine file: how they are written, and networks that run on all of them at once."""

from __future__ import annotations

import dataclasses
import json
from itertools import combinations
from pathlib import Path

import pytest

from tilewright.cli import main
from tilewright.errors import InputError
from tilewright.hw_models.describe import describe, figures_hash
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.machine_schema import machine_schema
from tilewright.hw_models.spec import MachineSpec
from tilewright.search import api
from tilewright.search.groups.exact import made_ready, spans_of
from tilewright.search.groups.handed import Handed, _waits, with_hand_over
from tilewright.search.groups.place import in_order, on_one_group, shortest
from tilewright.search.groups.prepare import Prepared, prepared
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import ATTENTION_DATAFLOWS, simulate_stream
from tilewright.sim.engine.reference import run_reference
from tilewright.sim.network_result import NetworkResult
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

EXAMPLE = Path(__file__).parents[2] / "examples" / "npu-with-dsp.yaml"
SHARED = """
name: board
clock_ghz: 1.0
dram: {bandwidth_gb_per_s: 8, first_access_latency_ns: 50, burst_bytes: 32}
energy: {node_nm: 12, dram_kind: lpddr4x, static_mw: 50}
"""
NPU = """
    n_cores: 1
    matrix: {rows: 8, columns: 8, stationarity: output, fill_drain: per_command, multiplies_per_pe_per_cycle: {int8: 1}}
    vector:
      {lanes: 4, cycles: {add: 1, sub: 1, mul: 1, max: 1, exp: 4, div: 4}, startup_cycles: 4, reduction_depth_cycles: 2}
    buffers: [{name: sram, capacity_kib: 32, read_bytes_per_cycle: 32, write_bytes_per_cycle: 32}]
    lacks: [softmax]
    per_layer_us: 0.2
"""
SIZES = {"rows": 16, "columns": 32}
OTHERS = """
  dsp:
    clock_ghz: 0.7
    matrix:
      rows: 1
      columns: 16
      stationarity: output
      fill_drain: hidden
      multiplies_per_pe_per_cycle: {int8: 1, fp16: 1}
    vector:
      lanes: 32
      cycles: {add: 1, sub: 1, mul: 1, max: 1, exp: 4, div: 4}
      startup_cycles: 4
      reduction_depth_cycles: 2
    buffers: [{name: tcm, capacity_kib: 64}]
    energy: {vector_pj: {add: 0.5}}
  cpu: {processor: {name: a55, giga_operations_per_s: 2, bandwidth_gb_per_s: 2, per_operator_us: 3}}
"""
IN_GROUPS = f"{SHARED}groups:\n  npu:{NPU}{OTHERS}"
AT_TOP = f"{SHARED}main: npu\nlacks: [softmax]\noverheads: {{per_layer_us: 0.2}}\n" + "\n".join(
    line.removeprefix("    ") for line in NPU.splitlines() if "lacks" not in line and "per_layer" not in line
)


def load(tmp_path: Path, text: str, name: str = "board.yaml") -> MachineSpec:
    path = tmp_path / name
    path.write_text(text)
    return load_machine(path)


@pytest.fixture
def board(tmp_path: Path) -> MachineSpec:
    return load(tmp_path, IN_GROUPS)


def branches(activations: str = "int8") -> OperatorStream:
    """A stem, two branches side by side, one of which begins depthwise, and their sum."""
    b = Layers("branches", activations=activations, weights="int8")
    x = b.conv(b.input("image", (1, 8, 12, 12)), 16, 3, "stem", padding=1)
    one = b.conv(x, 16, 3, "wide", padding=1)
    other = b.conv(b.conv(x, 16, 3, "depthwise", padding=1, groups=16), 16, 1, "pointwise")
    return b.finish([b.global_mean(b.elementwise("add", one, other, name="sum"), "mean")])


def ready(stream: OperatorStream, machine: MachineSpec) -> Prepared:
    return prepared(
        stream, machine, objective="latency", fuse=True, widen=False, attention_dataflows=ATTENTION_DATAFLOWS,
        cache=MappingCache(), n_processes=1, progress=None,
    )  # fmt: skip


def run(stream: OperatorStream, machine: MachineSpec) -> NetworkResult:
    return simulate_stream(stream, machine, cache=MappingCache())


# --- the file ----------------------------------------------------------------------------------------------------


def test_the_main_group_may_stand_at_the_top_or_among_the_groups(tmp_path: Path, board: MachineSpec) -> None:
    assert board.group_names == ("npu", "dsp", "cpu")
    assert load(tmp_path, f"{AT_TOP}\ngroups:{OTHERS}", "top.yaml") == board
    assert load(tmp_path, board.to_yaml(), "again.yaml") == board
    assert load_machine(str(tmp_path / "board.yaml"), ["groups.npu.matrix.rows=4"]).matrix.rows == 4
    assert board.overheads.per_layer_us == 0.2


def test_a_group_is_the_machine_with_its_own_parts(board: MachineSpec) -> None:
    dsp = board.group("dsp")
    assert (dsp.clock_ghz, dsp.vector.lanes, dsp.buffers[0].name, dsp.lacks) == (0.7, 32, "tcm", ())
    assert (dsp.dram, dsp.energy.static_mw, dsp.overheads) == (board.dram, 50, board.overheads)
    assert dsp.energy.vector_pj["add"] == 0.5 and dsp.energy.vector_pj["exp"] == board.energy.vector_pj["exp"]
    assert dsp.energy.buffer_read_pj_per_byte.keys() == {"tcm"}
    assert board.group("npu") == dataclasses.replace(board, name="board with group=npu", groups={})
    assert board.group("cpu").lacks == ("*",)


def test_it_is_named_changed_and_inherited(tmp_path: Path, board: MachineSpec) -> None:
    path = str(tmp_path / "board.yaml")
    alone = load_machine(path, ["groups.dsp.n_cores=2", "group=dsp", "vector.lanes=8"])
    assert alone.name == "board with groups.dsp.n_cores=2, group=dsp, vector.lanes=8"
    assert (alone.n_cores, alone.vector.lanes) == (2, 8)
    own = "name: mine\nbase: board.yaml\ngroups:\n  npu: {matrix: {rows: 16}}\n  dsp: {n_cores: 3}\n  cpu: null\n"
    mine = load(tmp_path, own, "mine.yaml")
    assert (mine.matrix.rows, mine.groups["dsp"].n_cores, mine.group_names) == (16, 3, ("npu", "dsp"))
    assert any("matrix.rows 16 instead of 8" in text for text in mine.assumptions)
    assert figures_hash(mine) != figures_hash(board)
    rows = {row.path: row.value for row in describe(board)}
    assert rows["groups.dsp.buffers.tcm.capacity_kib"] == 64 and rows["groups.cpu.processor.giga_operations_per_s"] == 2


def test_a_file_with_everything_in_groups_fits_the_schema() -> None:
    import jsonschema
    import yaml

    jsonschema.validate(yaml.safe_load(IN_GROUPS), machine_schema())


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("group=dps", r'unknown group; given "dps"; allowed npu, dsp, cpu \(did you mean "dsp"'),
        ("groups.dps.n_cores=2", r'unknown group; given "dps"; allowed npu, dsp, cpu'),
        ("groups.dsp.n_core=2", r'groups.dsp.n_core: unknown field.*did you mean "n_cores"'),
        ("groups.dsp.energy.vector_pj={sqrt: 1}", "groups.dsp.energy.vector_pj"),
        ("groups.dsp.buffers.tcm.latency_cycles=2", "groups.dsp.buffers.0.latency_cycles: nothing waits"),
        ("groups.cpu.n_cores=2", "groups.cpu.n_cores: given beside processor"),
        ("main=dsp", "groups.dsp: the main group is called so"),
        ("residency=plan", "residency: given beside groups"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path: Path, board: MachineSpec, setting: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as fault:
        load_machine(str(tmp_path / "board.yaml"), [setting])
    assert len(fault.value.args) == 1


def test_a_main_group_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'bad.yaml:2:7: main: unknown group; given "gpu"; allowed npu, dsp, cpu'):
        load(tmp_path, IN_GROUPS.replace("name: board", "main: gpu\nname: board"), "bad.yaml")


# --- networks ----------------------------------------------------------------------------------------------------


def test_branches_run_at_once_and_never_slower_than_the_main_group_alone(board: MachineSpec) -> None:
    result, alone = run(branches(), board), run(branches(), board.group("npu"))
    on = result.on_groups
    assert on is not None and on.is_proven and on.main_alone_cycles == alone.cycles
    assert result.cycles == on.exact_cycles < alone.cycles
    of = {operator.name: operator for operator in result.operators}
    assert (of["stem"].core_group, of["depthwise"].core_group) == ("npu", "dsp")
    start, other = of["wide"].start_cycle, of["depthwise"].start_cycle
    assert start is not None and other is not None and other < start + of["wide"].cycles
    assert start < other + of["depthwise"].cycles
    assert result.lower_bound_cycles <= result.cycles
    assert all(operator.lower_bound.cycles <= operator.cycles for operator in result.operators)


def test_the_program_is_that_of_the_reference(board: MachineSpec) -> None:
    own = ready(branches(), board)
    for placement in (shortest(own), in_order(own)):
        made = made_ready(own, placement, prefetch=True)
        want = run_reference(made.joint.program)
        assert (want.cycles, want.channel_bytes) == (made.cycles, want.channel_bytes)


def test_all_on_the_main_group_is_the_machine_without_groups(board: MachineSpec) -> None:
    own = ready(branches(), board)
    placement = on_one_group(own, 0)
    assert placement is not None
    for prefetch in (True, False):
        alone = simulate_stream(branches(), board.group("npu"), prefetch=prefetch, cache=MappingCache())
        assert made_ready(own, placement, prefetch=prefetch).cycles == alone.cycles


def test_at_another_clock_alone_is_alone(board: MachineSpec) -> None:
    own = ready(branches(), board)
    placement = on_one_group(own, 1)
    assert placement is not None
    assert made_ready(own, placement, prefetch=False).cycles == placement.cycles
    alone = simulate_stream(branches(), board.group("dsp"), prefetch=False, cache=MappingCache())
    assert placement.cycles == pytest.approx(alone.cycles / 0.7, rel=0.02)  # commands rounded up to whole cycles


def test_why_doubles_what_each_group_has(board: MachineSpec) -> None:
    why = api.why_network(branches(), board, keep_mappings=False)
    found = {item.label: item.cycles for item in why.what_ifs}
    assert {"2x matrix rate", "2x DRAM bandwidth", "2x dsp cores", "2x cpu rate"} <= found.keys()
    assert found["2x dsp cores"] == run(branches(), board.with_(**{"groups.dsp.n_cores": 2})).cycles


def test_energy_is_that_of_the_parts(board: MachineSpec) -> None:
    result = run(branches(), board)
    told = sum(operator.energy_pj for operator in result.operators) + result.overhead_energy_pj
    assert told == pytest.approx(result.energy_pj)
    assert result.energy_by_component["static"] == pytest.approx(50 * result.cycles)  # mW at 1 GHz, of all groups
    assert result.energy_by_component["dsp vector"] > 0
    assert result.dram_bytes == sum(operator.dram_bytes for operator in result.operators)


def test_what_the_main_group_lacks_runs_where_it_is(board: MachineSpec) -> None:
    b = Layers("soft", activations="int8", weights="int8")
    stream = b.finish([b.add("softmax", "softmax", [b.linear(b.input("x", (16, 32)), 32, "product")], (16, 32), SIZES)])
    result = run(stream, board)
    assert [operator.core_group for operator in result.operators] == ["npu", "dsp"]
    assert result.on_groups is not None and result.on_groups.main_alone_cycles is None
    on_cpu = run(stream, board.with_(**{"groups.dsp": None}))
    assert [operator.core_group for operator in on_cpu.operators] == ["npu", "cpu"]
    assert any("cpu is a55 at 2 x 10^9 operations" in text for text in on_cpu.assumptions)
    lacking = board.with_(**{"groups.cpu": None, "groups.dsp.lacks": ["softmax"]})
    with pytest.raises(
        InputError, match=r'softmax: no group of board \(npu, dsp\) has operators of this kind; given "s'
    ):
        run(stream, lacking)


def test_a_memory_for_weights_is_shared(board: MachineSpec) -> None:
    memory = {"name": "flash", "bandwidth_gb_per_s": 0.4, "read_pj_per_byte": 10}
    machine = board.with_(**{"weights.memory": memory})
    own = ready(branches(), machine)
    made = made_ready(own, shortest(own), prefetch=True)
    assert run_reference(made.joint.program).cycles == made.cycles
    assert [channel.name for channel in made.joint.program.channels].count("flash") == 1
    assert all(2 not in options for job, options in zip(own.jobs, own.options, strict=True) if job.weight_bytes)
    result = run(branches(), machine)
    assert result.weight_memory_bytes == run(branches(), machine.group("npu")).weight_memory_bytes > 0
    assert result.energy_by_component["flash"] == 10 * result.weight_memory_bytes


def test_a_format_that_one_group_has(board: MachineSpec) -> None:
    result = run(branches("fp16").with_formats(weights="fp16"), board)
    products = [operator for operator in result.operators if operator.kind == "conv"]
    assert {operator.core_group for operator in products} <= {"dsp", "cpu"}


def test_a_memory_that_both_reach_is_where_they_hand_over(board: MachineSpec) -> None:
    level = {"capacity_kib": 8, "read_bytes_per_cycle": 16, "write_bytes_per_cycle": 16, "shared_by_cores": True}
    changes = {"buffers": [*map(dataclasses.asdict, board.buffers), {"name": "l2", **level}]}
    machine = board.with_(**changes, **{"groups.dsp.reaches": ["l2"]})
    assert machine.group("dsp").buffers[-1].read_bytes_per_cycle == pytest.approx(16 / 0.7)
    own = ready(branches(), machine)
    assert [unit.machine.buffers[-1].capacity_kib for unit in own.units[:2]] == [2, 2]  # half of it, for two groups
    placement = shortest(own)
    with_it = with_hand_over(
        own, placement, objective="latency", attention_dataflows=ATTENTION_DATAFLOWS, cache=MappingCache()
    )
    made = made_ready(with_it, placement, prefetch=True)
    assert with_it.handed and made.cycles < made_ready(own, placement, prefetch=True).cycles
    assert run_reference(made.joint.program).cycles == made.cycles
    spans = spans_of(made)
    lives = [
        (min(spans[user][0] for user in one.users), max(spans[user][1] for user in one.users)) for one in with_it.handed
    ]
    for (one, (start, end)), (other, (begin, last)) in combinations(zip(with_it.handed, lives, strict=True), 2):
        is_apart = one.address + one.n_bytes <= other.address or other.address + other.n_bytes <= one.address
        assert is_apart or end <= begin or last <= start
    result = run(branches(), machine)
    assert result.on_groups is not None and result.on_groups.handed_in == "l2"
    assert result.dram_bytes < run(branches(), board).dram_bytes
    with pytest.raises(InputError, match=r'groups.dsp.reaches: .*given "sram"; allowed l2'):
        machine.with_(**{"groups.dsp.reaches": ["sram"]})


def test_who_writes_where_something_else_was_waits_for_its_readers() -> None:
    first = Handed(name="a", n_bytes=8, makers=(0,), users=(0, 3), start=0, end=10)
    parts = Handed(name="b", n_bytes=4, makers=(1, 2), users=(1, 2, 4), start=10, end=20, address=4)
    beside = Handed(name="c", n_bytes=4, makers=(1,), users=(1, 4), start=10, end=20, address=8)
    waits = {(edge.source, edge.target) for edge in _waits([first, parts, beside])}
    assert waits == {(0, 1), (3, 1), (0, 2), (3, 2)}


@pytest.mark.parametrize("objective", ["energy", "edp"])
def test_other_objectives_are_no_worse_than_for_latency(board: MachineSpec, objective: str) -> None:
    stream = branches()
    best = simulate_stream(stream, board, objective=objective, cache=MappingCache())  # type: ignore[arg-type]
    alone = simulate_stream(stream, board.group("npu"), objective=objective, cache=MappingCache())  # type: ignore[arg-type]

    def value(result: NetworkResult) -> float:
        return result.energy_pj * (1 if objective == "energy" else result.cycles)

    assert value(best) <= value(alone)
    assert best.on_groups is not None and best.on_groups.best_cycles == 0


def test_a_layer_runs_on_the_group_where_it_is_best(board: MachineSpec) -> None:
    product = api.simulate("gemm:m=64,n=64,k=64,format=int8", board)
    assert product.machine == "board with group=npu"
    assert product.assumptions[0].startswith("on the group npu of board, where it is best (dsp: ")
    with pytest.raises(InputError, match="a processor of a published rate; given the layer"):
        api.simulate("gemm:m=64,n=64,k=64,format=int8", board.group("cpu"))
    compared = api.compare(["gemm:m=64,n=64,k=64,format=int8"], [board, load_machine("edge-16x16")])
    assert [one.machine for one in compared.runs] == ["board", "edge-16x16"]


# --- the command line --------------------------------------------------------------------------------------------


ON_EXAMPLE = ("-a", str(EXAMPLE), "--weights", "int8", "--activations", "int8")


def tilewright(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    """What the command says; it must end with ``code``."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == code
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_tables_files_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page"
    files = ["--json", str(tmp_path / "o.json"), "--csv", str(tmp_path / "o.csv"), "--report", str(out)]
    said = tilewright(capsys, 0, "simulate", "resnet-8", *ON_EXAMPLE, *files)
    assert "group npu" in said and "without contention" in said and "npu alone" in said
    data = json.loads((tmp_path / "o.json").read_text())
    assert {one["core_group"] for one in data["operators"]} <= {"npu", "dsp", "cpu"}
    assert [one["name"] for one in data["on_groups"]["groups"]] == ["npu", "dsp", "cpu"]
    assert "core_group,start_cycle" in (tmp_path / "o.csv").read_text()
    page = (out / "index.html").read_text()
    assert "Groups of cores" in page and "One lane for each group of cores" in page


def test_commands_that_ask_about_one_group_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = tilewright(capsys, 0, "search", "resnet-8", "--over", "fusion", "-a", str(EXAMPLE))
    assert "has unlike groups of cores; this is the main one, npu (--set group=dsp, --set group=cpu: another)" in said
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(f"name: s\nmachine: {EXAMPLE}\nparameters: {{groups.dsp.n_cores: [1]}}\nworkloads: [vit-b-16]\n")
    said = tilewright(capsys, 2, "sweep", str(sweep), "--store", str(tmp_path / "s.db"))
    assert "machine: npu-with-dsp has unlike groups of cores; given single layers; allowed networks" in said


def test_residency_is_asked_of_one_group(capsys: pytest.CaptureFixture[str]) -> None:
    said = tilewright(capsys, 2, "simulate", "resnet-8", *ON_EXAMPLE, "--residency", "plan")
    assert "residency: means nothing on npu-with-dsp" in said
