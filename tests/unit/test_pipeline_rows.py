"""Maps handed over by rows: what each tile needs, room in line buffers, and the run against what must hold of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.__main__ import main
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import BufferSpec, MachineSpec
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.pipeline import by_rows as line_buffers
from tilewright.search.pipeline import run as pipeline_run
from tilewright.search.pipeline import stages as stages_of_pipeline
from tilewright.search.pipeline.by_rows import ByRows
from tilewright.search.pipeline.row_handover import Ring, RowExchange, dones, needs
from tilewright.search.pipeline.rows import JobRows, with_row_loops_open
from tilewright.search.pipeline.run import simulate_pipeline
from tilewright.sim.engine.joint import Joint
from tilewright.sim.engine.program import Command, Loop
from tilewright.sim.engine.reference import run_reference
from tilewright.sim.engine.run import DeadlockError, run_program, simulate
from tilewright.sim.engine.trace import TraceCommand, trace_program
from tilewright.sim.jobs import jobs_on
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

EDGE = load_machine("edge-16x16")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> MappingCache:
    """One cache for this file, so that each mapping is searched once."""
    return MappingCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def one_core_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages of more cores are searched for elsewhere."""
    monkeypatch.setattr(pipeline_run, "core_counts", lambda n_cores: (1,))


def chain() -> OperatorStream:
    """Convolutions of two strides, one by channels, a pool: a map at a time."""
    b = Layers("chain", activations="int8", weights="int8")
    x = b.conv(b.input("image", (1, 8, 24, 24)), 16, 3, "first")
    x = b.conv(x, 16, 3, "second")
    x = b.conv(x, 16, 3, "depthwise", groups=16, stride=2)
    x = b.max_pool(b.conv(x, 32, 1, "third"), 2, "pool", stride=2, padding=0)
    return b.finish([b.conv(x, 32, 3, "last")])


def branches() -> OperatorStream:
    """A residual around two convolutions, a join, an upsampling: rows stay until the slower branch has them."""
    b = Layers("branches", activations="int8", weights="int8")
    x = b.conv(b.input("image", (1, 8, 16, 16)), 16, 3, "first")
    y = b.conv(b.conv(x, 16, 3, "left"), 16, 3, "right")
    z = b.elementwise("add", y, x)
    down = b.conv(z, 16, 3, "down", stride=2)
    joined = b.concat([b.upsample(b.conv(down, 16, 1, "low"), 2), z], 1, "join")
    return b.finish([b.conv(joined, 16, 1, "last")])


def short() -> OperatorStream:
    """Two convolutions, a residual, and one with a stride."""
    b = Layers("short", activations="int8", weights="int8")
    x = b.conv(b.input("image", (1, 16, 16, 16)), 16, 1, "first")
    y = b.conv(x, 16, 3, "second")
    return b.finish([b.conv(b.elementwise("add", y, x), 16, 3, "last", stride=2)])


def tokens() -> OperatorStream:
    """Products whose rows are tokens."""
    b = Layers("tokens", activations="int8", weights="int8")
    x = b.linear(b.input("x", (1, 64, 48)), 64, "up")
    return b.finish([b.linear(b.linear(x, 48, "down"), 32, "out")])


def cores(n: int, kib: float = 512, **changes: object) -> MachineSpec:
    return EDGE.with_(n_cores=n, **{"buffers.l1.capacity_kib": kib, "dram.bandwidth_gb_per_s": 64, **changes})


def with_level(kib: float, n_cores: int) -> MachineSpec:
    far = BufferSpec(
        name="l2", capacity_kib=kib, read_bytes_per_cycle=64, write_bytes_per_cycle=64, shared_by_cores=True
    )
    pj = {"l1": 1.0, "l2": 3.0}
    energy = replace(EDGE.energy, buffer_read_pj_per_byte=pj, buffer_write_pj_per_byte=pj)
    return replace(cores(n_cores), buffers=(*cores(n_cores).buffers, far), energy=energy)


NETWORKS = [
    pytest.param(chain, 6, marks=pytest.mark.slow),
    pytest.param(branches, 7, marks=pytest.mark.slow),
    pytest.param(tokens, 3),
]


@pytest.mark.parametrize(("network", "n_stages"), NETWORKS)
def test_the_first_image_comes_earlier_through_smaller_buffers(
    network: Callable[[], OperatorStream], n_stages: int, kept: MappingCache
) -> None:
    """The interval is that of whole maps (to 1 %), nothing below its bound, and what stages move is what is counted."""
    stream, machine = network(), cores(n_stages)
    whole, rows = (
        simulate_pipeline(stream, machine, n_stages=n_stages, n_images=6, hand_over=how, cache=kept)
        for how in ("maps", "rows")
    )
    assert (whole.hand_over, rows.hand_over) == ("maps", "rows")
    assert rows.fill_cycles < whole.fill_cycles
    assert rows.interval_cycles <= float(whole.interval_cycles) * 1.01
    assert rows.interval_cycles >= rows.bound_cycles
    assert rows.handed_over_bytes < whole.handed_over_bytes
    assert rows.dram_bytes <= whole.dram_bytes
    assert rows.dram_bytes == 6 * sum(stage.dram_bytes for stage in rows.stages)
    for stage in rows.stages:
        assert stage.bound_cycles <= stage.work_cycles <= float(rows.interval_cycles) * 1.01
        assert stage.work_cycles <= stage.stay_cycles
    for one in rows.handed_over:
        assert one.least_rows is not None
        assert one.line_rows is not None
        assert one.map_rows is not None
        assert one.least_rows <= one.line_rows <= one.map_rows * one.n_maps
        assert one.buffer_bytes * one.map_rows >= one.n_bytes * one.line_rows


def _as_fine_as_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mappings of as few rows as there are, whatever time they take."""
    finer = stages_of_pipeline.by_finer_rows
    monkeypatch.setattr(stages_of_pipeline, "by_finer_rows", lambda *given: finer(*given[:-1], 10**9))


def _made(
    stream: OperatorStream, machine: MachineSpec, n_stages: int, kept: MappingCache, monkeypatch: pytest.MonkeyPatch
) -> tuple[ByRows, list[JobRows], list[Ring]]:
    """What the run with rows chose, and what its jobs touch."""
    seen: list[tuple[ByRows, list[JobRows]]] = []
    timed = line_buffers._timed

    def noting(how: object, stages: object, jobs: list[JobRows], *more: object) -> ByRows:
        found = timed(how, stages, jobs, *more)  # type: ignore[arg-type]
        seen.append((found, jobs))
        return found

    monkeypatch.setattr(line_buffers, "_timed", noting)
    _as_fine_as_can_be(monkeypatch)
    simulate_pipeline(stream, machine, n_stages=n_stages, hand_over="rows", residency=False, cache=kept)
    found, jobs = min(seen, key=lambda one: sum(ring.n_bytes for ring in one[0].rings))
    return found, jobs, list(found.rings)


@pytest.mark.parametrize(
    ("network", "n_stages"), [*NETWORKS, (short, 3), pytest.param(branches, 3, marks=pytest.mark.slow)]
)
def test_no_row_is_read_before_it_is_there_nor_written_over_before_it_is_read(
    network: Callable[[], OperatorStream],
    n_stages: int,
    kept: MappingCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the cycles of every transfer of some images, whatever the tokens say; SimPy runs them the same."""
    found, jobs, rings = _made(network(), cores(n_stages), n_stages, kept, monkeypatch)
    assert _check_order(found, jobs, rings) > 8 * len(rings)


def _check_order(found: ByRows, jobs: list[JobRows], rings: list[Ring]) -> int:
    """Run some images and compare the cycles of transfers; returns how many comparisons there were."""
    n_images = 4
    program = found.make(n_images).program
    want = run_reference(program)
    assert not want.waiting
    for skip in (False, True):
        assert run_program(program, skip=skip).cycles == want.cycles
    window = trace_program(program, clock_ghz=1, max_commands=10**6)
    assert window.complete
    by_engine: dict[str, list[TraceCommand]] = {name: [] for name in window.engines}
    for command in sorted(window.commands, key=lambda one: one.start):
        if command.end > command.start:  # not what only waits
            by_engine[window.engines[command.engine]].append(command)
    times = _times_of_items(found, jobs, by_engine, n_images)
    checked = 0
    for ring in rings:
        wrote = jobs[ring.handover.maker].writes[ring.handover.name]
        for reader in ring.readers:
            read = jobs[reader].reads[ring.handover.name]
            for queue, runs in wrote.runs.items():
                for other, own in read.runs.items():
                    n, d = ring.map_rows, ring.n_rows
                    for image in range(n_images):
                        for run, done in zip(own, needs(own), strict=True):
                            begins = times[reader, other, image][run.item][0]
                            made = next(at for at, rows in enumerate(dones(runs, n)) if rows >= done)
                            assert times[ring.handover.maker, queue, image][runs[made].item][1] <= begins
                            checked += 1
                        for run, high in zip(runs, needs(runs), strict=True):
                            back, row = divmod(image * n + high - d - 1, n)
                            if back >= 0:
                                free = next(at for at, rows in enumerate(dones(own, n)) if rows > row)
                                ended = times[reader, other, back][own[free].item][1]
                                assert ended <= times[ring.handover.maker, queue, image][run.item][0]
                                checked += 1
    return checked


def _times_of_items(
    found: ByRows, jobs: list[JobRows], by_engine: dict[str, list[TraceCommand]], n_images: int
) -> dict[tuple[int, int, int], list[tuple[int, int]]]:
    """(first start, last end) of each item of each queue of each job that goes by rows, by image."""
    times = {}
    job = 0
    for number, stage in enumerate(found.stages, start=1):
        numbers = range(job, job + len(stage.jobs))
        job += len(stage.jobs)
        engines = {engine.name for programs in stage.programs for one in programs for engine in one.engines}
        for name in engines:
            own, at = by_engine.get(f"stage {number}: {name}", []), 0
            for image in range(n_images):
                for local, programs in zip(numbers, stage.programs, strict=True):
                    opened = jobs[local].program
                    for program in (opened,) if opened is not None else programs:
                        for queue, engine in enumerate(program.engines):
                            if engine.name != name:
                                continue
                            spans = []
                            for item in program.queues[queue]:
                                n = _length(item)
                                mine, at = own[at : at + n], at + n
                                spans.append((mine[0].start, mine[-1].end))
                            times[local, queue, image] = spans
            assert at == len(own)
    return times


def _length(item: Command | Loop) -> int:
    return 1 if isinstance(item, Command) else item.count * sum(map(_length, item.body))


@pytest.mark.slow
@settings(max_examples=int(os.environ.get("TILEWRIGHT_FUZZ", "10")), deadline=None)
@given(data=st.data())
def test_any_network_is_handed_over_in_order(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Random convolutions, strides, channels apart, pools and residuals, in any number of stages."""
    b = Layers("any", activations="int8", weights="int8")
    channels, size = data.draw(st.sampled_from([4, 8])), data.draw(st.integers(6, 14))
    x, height = b.conv(b.input("image", (1, 4, size, size)), channels, 1, "first"), size
    before: list[tuple[str, int]] = []
    for number in range(data.draw(st.integers(2, 6))):
        kind = data.draw(st.sampled_from(["conv", "stride", "apart", "pool", "add", "tall"]))
        same = [name for name, rows in before if rows == height]
        before.append((x, height))
        if kind == "add" and same:
            x = b.elementwise("add", b.conv(x, channels, 3, f"c{number}"), data.draw(st.sampled_from(same)))
        elif kind == "apart":
            x = b.conv(x, channels, 3, f"a{number}", groups=channels)
        elif kind == "pool" and height >= 4:
            x, height = b.max_pool(x, 2, f"p{number}", stride=2, padding=0), height // 2
        elif kind == "stride" and height >= 4:
            x, height = b.conv(x, channels, 3, f"s{number}", stride=2), -(-height // 2)
        else:
            x = b.conv(x, channels, 5 if kind == "tall" and height >= 5 else 3, f"k{number}")
    stream = b.finish([b.conv(x, channels, 1, "last")])
    n_stages = data.draw(st.integers(2, len(jobs_on(stream, EDGE))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_run, "core_counts", lambda n_cores: (1,))
        cache = MappingCache(tmp_path_factory.mktemp("cache"))
        found, jobs, rings = _made(stream, cores(n_stages), n_stages, cache, patch)
    _check_order(found, jobs, rings)


@pytest.mark.slow
def test_a_ring_of_fewer_rows_than_the_least_stands_still(kept: MappingCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the least rows all images pass; where maps go from each layer to the next only, one row less is too few."""
    found, jobs, rings = _made(chain(), cores(6), 6, kept, monkeypatch)
    make = partial(_with_rings, found, jobs)
    assert all(ring.least <= ring.line <= ring.n_rows for ring in rings)
    simulate(make([replace(ring, n_rows=ring.least) for ring in rings]).program)
    few = [ring for ring in rings if ring.least < ring.map_rows]
    assert few
    for one in few:
        with pytest.raises(DeadlockError):
            simulate(make([replace(r, n_rows=r.least - 1) if r is one else r for r in rings]).program)


def _with_rings(found: ByRows, jobs: list[JobRows], rings: list[Ring], n_images: int = 5) -> Joint:
    make = found.make
    assert isinstance(make, partial)
    asked, stages, _, takes_turns = make.args
    return pipeline_run._joint(asked, stages, RowExchange(rings, jobs), takes_turns, n_images)


def test_a_line_buffer_holds_the_kernel_and_the_stride(kept: MappingCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row by row, a 3 x 3 kernel needs 3 rows; beside them there is room for the row that is written, and for one that
    is given up behind the tile that is read.
    """
    b = Layers("two", activations="int8", weights="int8")
    x = b.conv(b.input("image", (1, 16, 16, 16)), 16, 1, "first")
    stream = b.finish([b.conv(x, 16, 3, "second")])
    by_row: list[Ring] = []
    rings_of = line_buffers.rings_of

    def noting(*given: object) -> list[Ring]:
        rings = rings_of(*given)  # type: ignore[arg-type]
        by_row.extend(rings)
        return rings

    monkeypatch.setattr(line_buffers, "rings_of", noting)
    _as_fine_as_can_be(monkeypatch)
    simulate_pipeline(stream, cores(2), n_stages=2, hand_over="rows", cache=kept)
    least = min(by_row, key=lambda ring: ring.line)
    assert least.map_rows == 16
    assert least.least == 3
    assert least.line == 3 + 1 + 2  # the first tile, at the border, needs two rows less than it will


def test_the_slower_branch_says_how_many_rows_stay(kept: MappingCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Around three 3 x 3 convolutions 4 rows of the residual wait, for the first of them 3; one buffer serves both."""
    b = Layers("residual", activations="int8", weights="int8")
    x = b.conv(b.input("image", (1, 16, 16, 16)), 16, 1, "first")
    y = b.conv(b.conv(b.conv(x, 16, 3, "second"), 16, 3, "third"), 16, 3, "fourth")
    _, _, rings = _made(b.finish([b.elementwise("add", y, x)]), cores(4), 4, kept, monkeypatch)
    first = [ring for ring in rings if ring.handover.maker == 0]
    assert {ring.handover.read_in for ring in first} == {1, 3}
    near, far = sorted(first, key=lambda ring: ring.handover.read_in)
    assert (near.least, far.least) == (3, 4)
    assert near.n_rows == far.n_rows  # one buffer for both


def test_with_its_loops_over_rows_written_out_a_program_is_the_same(
    kept: MappingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _, _ = _made(short(), cores(3), 3, kept, monkeypatch)
    for stage in found.stages:
        for (program,) in stage.programs:
            opened, _ = with_row_loops_open(program)
            assert opened.n_commands >= program.n_commands
            plain, other = run_program(program), run_program(opened)
            assert (plain.cycles, plain.busy_cycles, plain.n_commands) == (
                other.cycles,
                other.busy_cycles,
                other.n_commands,
            )


@pytest.mark.slow
def test_line_buffers_lie_in_the_shared_memory_one_behind_the_other(kept: MappingCache) -> None:
    """In half of a level that cannot hold the maps twice their line buffers fit: half of the DRAM's bytes."""
    whole, rows = (
        simulate_pipeline(chain(), with_level(24, 6), n_stages=6, n_images=4, hand_over=how, cache=kept)
        for how in ("maps", "rows")
    )
    assert rows.dram_bytes < 0.6 * whole.dram_bytes
    blocks = sorted(
        (one.address, one.buffer_bytes) for one in rows.handed_over if one.memory == "l2" and one.address is not None
    )
    assert len(blocks) == 3
    assert blocks[0][0] == 0
    assert all(address + n_bytes == other for (address, n_bytes), (other, _) in pairwise(blocks))
    assert blocks[-1][0] + blocks[-1][1] <= 24 * 1024 // 2


def test_stages_of_many_layers_hand_over_rows_too(kept: MappingCache) -> None:
    """Few stages: what is read inside of them, too; a batch of many takes an interval more for each."""
    machine = cores(2)
    result = simulate_pipeline(short(), machine, n_stages=2, n_images=40, hand_over="rows", cache=kept)
    more = simulate_pipeline(short(), machine, n_stages=2, n_images=40_000, hand_over="rows", cache=kept)
    assert result.interval_cycles >= result.bound_cycles
    assert result.period_images is not None
    assert more.cycles - result.cycles == pytest.approx(39_960 * float(result.interval_cycles), rel=1e-4)


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"hand_over.*row.*rows"):
        simulate_pipeline(chain(), cores(2), hand_over="row")
    for options, what in (
        (["--pipeline", "2", "--hand-over", "row"], 'given "row"'),
        (["--hand-over", "rows"], "--hand-over: means nothing without --pipeline"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["simulate", "ds-cnn", "-a", "edge-16x16", *options])
        assert ended.value.code == 2
        assert what in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_tells_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    path = tmp_path / "rows.json"
    given = ["ds-cnn", "-a", "edge-16x16", "--set", "n_cores=4", "--weights", "int8", "--activations", "int8"]
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *given, "--pipeline", "4", "--hand-over", "rows", "--json", str(path)])
    assert ended.value.code == 0
    assert "by rows" in capsys.readouterr().out
    data = json.loads(path.read_text())
    assert data["hand_over"] == "rows"
    assert all(one["line_rows"] >= one["least_rows"] for one in data["handed_over"])
