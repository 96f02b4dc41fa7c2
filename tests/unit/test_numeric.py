"""Dataflows on numbers: chosen shapes, forgotten synchronisation, and the texts of the errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.errors import InputError, MappingError, ProgramError
from tilewright.hw_models.load import load_machine
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.dataflows.attention.costs import AttentionCosts
from tilewright.sim.dataflows.attention.numbers.run import run_on_numbers
from tilewright.sim.engine.program import Engine, ProgramBuilder
from tilewright.sim.engine.run import DeadlockError
from tilewright.sim.lowering.core import Pool
from tilewright.sim.lowering.mapping import Dataflow, Phase, Tiling, get_dataflow
from tilewright.sim.numbers.hazards import Execution, HazardError, Order, Place, Store
from tilewright.sim.numbers.interpreter import operation
from tilewright.testing.dataflows import plain_dataflows
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.attention_reference import bias_shape, reference_attention

SMALL = {"matrix.rows": 4, "matrix.columns": 4}
EDGE, CLOUD = load_machine("edge-16x16").with_(**SMALL), load_machine("fusemax-cloud").with_(**SMALL)
WHOLE_BLOCK = 2**20
TILES = {
    "query": 4, "key": 4, "depth": 2, "resident": 0, "heads": 1, "overlap": 0, "overwrite": 0,
    "rows": WHOLE_BLOCK, "interleave": 1,
}  # fmt: skip


def a_layer(**changes: Any) -> AttentionLayer:
    values: dict[str, Any] = {
        "name": "layer", "batch": 1, "query_heads": 1, "kv_heads": 1, "query_len": 7, "key_len": 11,
        "head_dim": 5, "value_dim": 3,
    }  # fmt: skip
    return AttentionLayer(**(values | changes))


def a_tiling(dataflow: Dataflow, layer: AttentionLayer, **changes: int) -> dict[str, int]:
    """The same tiles for every phase, within what the layer allows."""
    values = TILES | changes
    return {p.name: min(values[p.name.split("_")[-1]], p.largest(layer)) for p in dataflow.parameters}


def inputs(layer: AttentionLayer) -> tuple[npt.NDArray[np.float64], ...]:
    random = np.random.default_rng(7)
    q = random.normal(size=(layer.batch, layer.query_heads, layer.query_len, layer.head_dim))
    k = random.normal(size=(layer.batch, layer.kv_heads, layer.key_len, layer.head_dim))
    v = random.normal(size=(layer.batch, layer.kv_heads, layer.key_len, layer.value_dim))
    return q, k, v


def joins(layer: AttentionLayer) -> dict[str, Any]:
    """What joins the scores of ``layer``."""
    random = np.random.default_rng(11)
    given: dict[str, Any] = {"bias": random.normal(size=bias_shape(layer))} if layer.has_bias else {}
    given |= {"sinks": random.normal(size=layer.query_heads)} if layer.sinks else {}
    return given | ({"soft_cap": 0.8} if layer.soft_cap else {})


def check(dataflow: Dataflow, layer: AttentionLayer, machine: Any = EDGE, **tiles: int) -> None:
    given, more = inputs(layer), joins(layer)
    output = run_on_numbers(dataflow, layer, machine, a_tiling(dataflow, layer, **tiles), *given, **more)
    np.testing.assert_allclose(output, reference_attention(layer, *given, **more), rtol=1e-12, atol=1e-13)


# -- is the result attention? ------------------------------------------------------------------------------

LAYERS = {
    "no tile divides": a_layer(),
    "more queries than keys": a_layer(query_len=13, key_len=6),
    "grouped heads, batch 2": a_layer(batch=2, query_heads=6, kv_heads=2),
    "decode": a_layer(query_len=1, query_heads=4, kv_heads=4, key_len=13),
    "decode, heads stacked in a tile": a_layer(query_len=1, query_heads=6, kv_heads=1, key_len=13),
    "short heads, stacked": a_layer(query_len=2, query_heads=10, kv_heads=2, mask="causal"),
    "one key": a_layer(key_len=1),
    "causal, square": a_layer(query_len=11, mask="causal", query_heads=2),
    "causal, fewer queries": a_layer(mask="causal", query_heads=4, kv_heads=2),
    "window on both sides": a_layer(mask="banded", window_left=2, window_right=1),
    "window to the left": a_layer(mask="banded", window_left=3, query_len=9),
    "window to the right": a_layer(mask="banded", window_right=0, query_heads=2),
    "bias of each head, causal": a_layer(mask="causal", query_heads=2, bias_batch=1, bias_heads=2, bias_rows=7),
    "padding mask of each entry": a_layer(batch=4, query_heads=2, bias_batch=2, bias_heads=1, bias_rows=1),
    "bias that stacked heads share": a_layer(query_len=2, query_heads=6, bias_batch=1, bias_heads=1, bias_rows=2),
    "sinks": a_layer(query_heads=4, kv_heads=2, batch=2, sinks=True),
    "soft cap in a window": a_layer(mask="banded", window_left=3, window_right=0, soft_cap=True),
    "bias, sinks and soft cap": a_layer(
        query_heads=4, kv_heads=2, bias_batch=1, bias_heads=4, bias_rows=7, sinks=True, soft_cap=True, key_format="int8"
    ),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("name", plain_dataflows())
def test_every_dataflow_computes_every_kind_of_layer(name: str, layer: AttentionLayer) -> None:
    dataflow = get_dataflow(name)
    check(dataflow, layer)
    check(dataflow, layer, query=3, key=2, depth=3)
    if layer.mask != "banded":
        check(dataflow, layer, resident=1)
        check(dataflow, layer, resident=1, key=layer.key_len, depth=3)


@pytest.mark.parametrize("heads", [2, 3, 4, 12])
@pytest.mark.parametrize("overlap", [0, 1])
def test_flat_takes_some_heads_together(heads: int, overlap: int) -> None:
    """Also a number that leaves a smaller last group."""
    layer = a_layer(batch=2, query_heads=6, kv_heads=3)
    check(get_dataflow("flat"), layer, query=layer.query_len, heads=heads, overlap=overlap)


@pytest.mark.parametrize("machine", [EDGE, CLOUD], ids=["softmax on lanes", "softmax in the array"])
@pytest.mark.parametrize("interleave", [0, 1])
@pytest.mark.parametrize("rows", [1, 2, 3, WHOLE_BLOCK])
def test_fusemax_on_both_kinds_of_machine(machine: Any, interleave: int, rows: int) -> None:
    joined = (LAYERS["bias of each head, causal"], LAYERS["bias, sinks and soft cap"], LAYERS["sinks"])
    for layer in (a_layer(query_heads=2), LAYERS["window on both sides"], *joined):
        check(get_dataflow("fusemax"), layer, machine, query=5, key=3, rows=rows, interleave=interleave)


OVERWRITTEN = [
    a_layer(query_heads=4, kv_heads=2), LAYERS["decode, heads stacked in a tile"], LAYERS["bias, sinks and soft cap"],
]  # fmt: skip


@pytest.mark.parametrize("layer", OVERWRITTEN)
@pytest.mark.parametrize("key", [1, 2])
def test_mas_overwrites_keys(layer: AttentionLayer, key: int) -> None:
    check(get_dataflow("mas"), layer, query=2, key=key, resident=1, overwrite=1)


def test_scale_of_one_pass_softmax() -> None:
    """Scores far apart: only differences to the running maximum are exponentiated."""
    layer = a_layer(head_dim=1, value_dim=1)
    q, k, v = inputs(layer)
    for name in plain_dataflows():
        dataflow = get_dataflow(name)
        output = run_on_numbers(dataflow, layer, EDGE, a_tiling(dataflow, layer, key=2), 900 * q, k, v)
        np.testing.assert_allclose(output, reference_attention(layer, 900 * q, k, v), rtol=1e-11)


# -- is forgotten synchronisation caught? ------------------------------------------------------------------


class ForgetfulCore:
    """A core whose commands do not wait for the semaphore ``forgotten``."""

    def __init__(self, core: AttentionCore, forgotten: str, seen: set[str]) -> None:
        self._core, self._forgotten, self._seen = core, forgotten, seen
        self._dropped: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._core, name)
        return self._command(attribute) if name in ("load", "store", "matrix", "vector") else attribute

    def _command(self, issue: Callable[..., None]) -> Callable[..., None]:
        def forgetful(work: Any, *, waits: Sequence[int] = (), **rest: Any) -> None:
            issue(work, waits=[wait for wait in waits if wait not in self._dropped], **rest)

        return forgetful

    def _note(self, name: str, number: int) -> int:
        self._seen.add(name)
        if name == self._forgotten:
            self._dropped.add(number)
        return number

    def pool(self, name: str, **options: int) -> Pool:
        pool = self._core.pool(name, **options)
        self._note(f"{name} slot free", pool.free)
        self._note(f"{name} ready", pool.full)
        return pool

    def semaphore(self, name: str, *arguments: Any, **options: Any) -> int:
        return self._note(name, self._core.semaphore(name, *arguments, **options))


def forgetting(dataflow: Dataflow, phase: Phase, semaphore: str, seen: set[str]) -> Dataflow:
    def lower(core: AttentionCore, tiling: Tiling) -> None:
        phase.lower(ForgetfulCore(core, semaphore, seen), tiling)

    broken = replace(phase, lower=lower)
    return replace(dataflow, phases=tuple(broken if p is phase else p for p in dataflow.phases))


# For every lowering: its settings, and the semaphores that others imply. All others must be caught.
# "S/P slot free": scores of a later block follow P V of an earlier one in the same queue. "… ready" of a pool whose
# rows are handed over with tokens of their own is not used. TileFlow's barrier and its row tokens imply each other.
SLOT, READY = "S/P slot free", "S/P ready"
ROW_TOKENS = {"S rows ready", "P rows ready", "matrix step finished", "vector step finished"}
ON_LANES = {SLOT, READY, "P V of a tile slot free", "running maximum ready", "tile sum ready"}
IN_ARRAY = {SLOT, READY, "P V of a tile slot free", "P tile ready"}
# The reload of the K tail waits for P of the block before, and all later loads queue behind it.
BEHIND_THE_TAIL = {"Q slot free", "K slot free", "V slot free", "K tail used", "S ready"}
LOWERINGS: list[tuple[str, dict[str, int], Any, list[set[str]]]] = [
    ("layerwise", {}, EDGE, [set(), set(), set()]),
    ("soft_pipe", {}, EDGE, [{READY}, set()]),
    ("flat", {}, EDGE, [{SLOT, READY}]),
    ("flat", {"overlap": 1}, EDGE, [{SLOT, READY}]),
    ("tileflow", {}, EDGE, [{SLOT, READY} | ROW_TOKENS]),
    ("fusemax", {"rows": 2}, EDGE, [ON_LANES]),
    ("fusemax", {"rows": 2}, CLOUD, [IN_ARRAY]),
    ("fusemax", {"rows": 2, "interleave": 0}, EDGE, [ON_LANES | {"step finished"}]),
    ("fusemax", {"rows": 2, "interleave": 0}, CLOUD, [IN_ARRAY | {"step finished"}]),
    ("flash2", {}, EDGE, [{SLOT, READY}]),
    ("mas", {}, EDGE, [{SLOT, READY}]),
    ("mas", {"overwrite": 1, "query": 2}, EDGE, [BEHIND_THE_TAIL]),
]
NAMES = ["-".join([name, *settings, machine.name]) for name, settings, machine, _ in LOWERINGS]
MANY_TILES, ONE_TILE, RESIDENT = {"key": 4}, {"key": 20}, {"key": 20, "resident": 1}


@pytest.mark.parametrize(("name", "settings", "machine", "implied"), LOWERINGS, ids=NAMES)
def test_every_forgotten_wait_is_caught(
    name: str, settings: dict[str, int], machine: Any, implied: list[set[str]]
) -> None:
    dataflow = get_dataflow(name)
    overwrites = bool(settings.get("overwrite"))
    layer = a_layer(query_heads=2, kv_heads=2, query_len=6 if overwrites else 12, key_len=20, head_dim=4)
    shapes = [{"key": 4, "resident": 1}] if overwrites else [MANY_TILES, ONE_TILE, RESIDENT]
    for phase, harmless in zip(dataflow.phases, implied, strict=True):
        semaphores: set[str] = set()
        caught: set[str] = set()
        for shape in shapes:
            tiling = a_tiling(dataflow, layer, **settings, **shape)
            run_on_numbers(forgetting(dataflow, phase, "", semaphores), layer, machine, tiling, *inputs(layer))
            for semaphore in semaphores - caught:
                broken = forgetting(dataflow, phase, semaphore, set())
                try:
                    run_on_numbers(broken, layer, machine, tiling, *inputs(layer))
                except HazardError:
                    caught.add(semaphore)
        assert semaphores - caught == harmless


@pytest.mark.parametrize(
    ("semaphore", "text"),
    [
        (
            "K ready",
            '"Q K^T" on matrix at cycle 103 reads K of key tile 0 of kv head 0 for row block 0 in pool "K" while '
            '"load K" is still writing it',
        ),
        (
            "K slot free",
            '"load K" on load at cycle 309 writes K of key tile 2 of kv head 0 for row block 0 in pool "K" over '
            'key tile 0 of kv head 0 for row block 0, but no token makes it wait for "Q K^T", which uses it too',
        ),
        (
            "P tile ready",
            '"P V" on matrix at cycle 927 reads P of rows 0-3 of kv head 0 in pool "S/P", but no token makes it '
            'wait for "normalise", which uses it too',
        ),
        (
            "O ready",
            '"store O" on store at cycle 0 reads O after 3 tiles of rows 0-3 of kv head 0 in pool "O", which is not '
            "there (the pool holds nothing)",
        ),
    ],
)
def test_hazard_names_command_pool_and_cycle(semaphore: str, text: str) -> None:
    dataflow, layer = get_dataflow("mas"), a_layer()
    broken = forgetting(dataflow, dataflow.phases[0], semaphore, set())
    with pytest.raises(HazardError) as caught:
        run_on_numbers(broken, layer, EDGE, a_tiling(dataflow, layer), *inputs(layer))
    assert str(caught.value) == text


def with_lowering(dataflow: Dataflow, lower: Callable[[AttentionCore, Tiling], None]) -> Dataflow:
    return replace(dataflow, phases=(replace(dataflow.phases[0], lower=lower),))


class PatchedCore(ForgetfulCore):
    """A core that changes the slots of a pool, or leaves out the commands of one name."""

    def __init__(self, core: AttentionCore, *, slots: dict[str, int] | None = None, without: str = "") -> None:
        super().__init__(core, "", set())
        self._slots, self._without = slots or {}, without

    def pool(self, name: str, **options: int) -> Pool:
        real = self._core.pool(name, **options)
        pool = real._replace(slots=real.slots + self._slots.get(name, 0))
        self._core.pools[name] = pool
        return pool

    def _command(self, issue: Callable[..., None]) -> Callable[..., None]:
        def patched(work: Any, **rest: Any) -> None:
            issue(work, **({**rest, "run": None} if rest["label"] == self._without else rest))

        return patched


def patched(name: str, **changes: Any) -> Dataflow:
    dataflow = get_dataflow(name)
    (phase,) = dataflow.phases
    return with_lowering(dataflow, lambda core, tiling: phase.lower(PatchedCore(core, **changes), tiling))


@pytest.mark.parametrize("name", ["flat", "tileflow", "fusemax", "flash2", "mas"])
@pytest.mark.parametrize("pool", ["Q", "K", "V", "O"])
def test_one_slot_fewer_than_the_tokens_say_is_caught(name: str, pool: str) -> None:
    layer = a_layer(query_len=16, key_len=16)
    broken = patched(name, slots={pool: -1})
    with pytest.raises(HazardError, match=r"which is not there|but no token makes it wait for"):
        run_on_numbers(broken, layer, EDGE, a_tiling(broken, layer, key=16), *inputs(layer))


def test_a_slot_too_small_for_its_tile_is_caught() -> None:
    """Twice the slots in the same room."""
    layer = a_layer()
    broken = patched("mas", slots={"S/P": 2})
    with pytest.raises(HazardError, match=r"which then needs \d+ bits of a slot of \d+ bits"):
        run_on_numbers(broken, layer, EDGE, a_tiling(broken, layer, key=16), *inputs(layer))


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("store O", "O of row 0 of kv head 0 was never stored to DRAM"),
        ("row maximum", "which is not there"),
        ("exponentials", 'in pool "row maxima and sums", of which this part has not been written'),
        ("normalise", 'reads P of rows 0-3 of kv head 0 in pool "S/P", which holds exp(S)'),
        ("P V", "which is not there"),
        ("load K", "which is not there"),
    ],
)
def test_a_command_that_does_nothing_is_caught(command: str, text: str) -> None:
    layer = a_layer(key_len=4)
    broken = patched("mas", without=command)
    with pytest.raises(HazardError) as caught:
        run_on_numbers(broken, layer, EDGE, a_tiling(broken, layer), *inputs(layer))
    assert text in str(caught.value)


# -- storage, by itself ------------------------------------------------------------------------------------


class Bench:
    """Two engines whose commands are started and finished by hand."""

    def __init__(self) -> None:
        builder = ProgramBuilder([Engine("load", "load"), Engine("matrix", "matrix")])
        self.ready = builder.semaphore("ready")
        builder.compute(0, cycles=1, signals=[self.ready], label="load K")
        builder.compute(1, cycles=1, label="Q K^T")
        builder.compute(1, cycles=1, waits=[self.ready], label="Q K^T after load K")
        program = builder.build()
        self.order = Order(program)
        self.commands = [command for _, command, _ in program.commands()]

    def start(self, engine: int, command: int) -> Execution:
        self.order.start(engine, self.commands[command])
        return Execution(
            label=self.commands[command].label,
            engine=engine,
            engine_name=("load", "matrix")[engine],
            cycle=5,
            known=self.order.known[engine],
        )

    def finish(self, engine: int, command: int, execution: Execution) -> None:
        execution.finish()
        self.order.finish(engine, self.commands[command])


def test_a_value_is_there_from_the_finish_of_its_writer_on_for_who_waits() -> None:
    bench, place = Bench(), Place(Store("K", 1), "tile 0")
    loading = bench.start(0, 0)
    loading.write(place, "K", np.ones(3), opens=True)
    with pytest.raises(HazardError, match=r'"Q K\^T" on matrix at cycle 5 reads K .* while "load K" is still writing'):
        bench.start(1, 1).read(place, "K")
    bench.finish(0, 0, loading)
    with pytest.raises(HazardError, match='no token makes it wait for "load K"'):
        bench.start(1, 1).read(place, "K")
    np.testing.assert_array_equal(bench.start(1, 2).read(place, "K"), np.ones(3))


def test_a_slot_in_use_is_not_written_over() -> None:
    bench, store = Bench(), Store("K", 1)
    first = bench.start(0, 0)
    first.write(Place(store, "tile 0"), "K", np.ones(3), opens=True)
    bench.finish(0, 0, first)
    bench.start(1, 2).read(Place(store, "tile 0"), "K")
    second = bench.start(0, 0)
    with pytest.raises(HazardError, match='K of tile 1 in pool "K" over tile 0, but no token makes it wait for'):
        second.write(Place(store, "tile 1"), "K", np.ones(3), opens=True)
    with pytest.raises(HazardError, match='writes K of tile 0 in pool "K", but no token makes it wait for'):
        second.write(Place(store, "tile 0"), "K", np.ones(3))


def test_parts_states_and_room_of_a_slot() -> None:
    bench, store = Bench(), Store("S/P", 2, slot_bits=64, bits_of=lambda state: 16)
    first = bench.start(0, 0)
    first.write(Place(store, "rows", 0), "S", np.ones(3), opens=True)
    bench.finish(0, 0, first)
    second = bench.start(0, 0)
    with pytest.raises(HazardError, match=r"reads S of rows .* of which this part has not been written"):
        second.read(Place(store, "rows", 1), "S")
    with pytest.raises(HazardError, match=r"reads P of rows .* which holds S"):
        second.read(Place(store, "rows", 0), "P")
    with pytest.raises(HazardError, match=r"reads S of others .* \(the pool holds rows\)"):
        second.read(Place(store, "others"), "S")
    second.write(Place(store, "rows", 1), "S", np.ones(1))
    with pytest.raises(HazardError, match="needs 96 bits of a slot of 64 bits"):
        second.write(Place(store, "rows", 2), "S", np.ones(2))


# -- what else goes wrong ----------------------------------------------------------------------------------


def test_wrong_input_is_refused_in_one_sentence() -> None:
    mas, layer = get_dataflow("mas"), a_layer()
    tiling = a_tiling(mas, layer)
    q, k, v = inputs(layer)
    with pytest.raises(InputError, match=r"^k: wrong shape; given \(1, 1, 11, 4\); allowed \(1, 1, 11, 5\)$"):
        run_on_numbers(mas, layer, EDGE, tiling, q, k[..., 1:], v)
    with pytest.raises(InputError, match=r"^v: holds values that are not finite$"):
        run_on_numbers(mas, layer, EDGE, tiling, q, k, v + np.inf)
    del tiling["depth"], tiling["key"]
    with pytest.raises(InputError, match=r"^tile: mas needs every parameter to run on numbers; missing key, depth$"):
        run_on_numbers(mas, layer, EDGE, tiling, q, k, v)


def test_mappings_that_make_no_sense_are_refused() -> None:
    layer = a_layer(query_heads=2)
    for name, tiles, text in (
        ("flat", {"heads": 2}, r"^tile \"heads\": 2 heads at a time need query=7 \(whole heads\)"),
        (
            "mas",
            {"overwrite": 1, "resident": 1, "query": 7},
            r"^tile \"overwrite\": P of a row block covers 4 K tiles of 3",
        ),
    ):
        dataflow = get_dataflow(name)
        with pytest.raises(InputError, match=text):
            run_on_numbers(dataflow, layer, EDGE, a_tiling(dataflow, layer, **tiles), *inputs(layer))


def test_what_does_not_fit_does_not_run() -> None:
    mas, layer = get_dataflow("mas"), a_layer(key_len=400)
    tiny = EDGE.with_(**{"buffers.l1.capacity_kib": 1})
    with pytest.raises(MappingError, match="buffer l1"):
        run_on_numbers(mas, layer, tiny, a_tiling(mas, layer), *inputs(layer))


def test_a_deadlock_is_reported() -> None:
    def lower(core: AttentionCore, tiling: Tiling) -> None:
        core.vector(core.costs.row_maximum(4, 4), waits=[core.semaphore("never")], label="row maximum")

    mas, layer = get_dataflow("mas"), a_layer()
    with pytest.raises(DeadlockError, match="vector stands at 'row maximum' waiting for never"):
        run_on_numbers(with_lowering(mas, lower), layer, EDGE, a_tiling(mas, layer), *inputs(layer))


def test_operations_are_registered_by_name_once() -> None:
    def lower(core: AttentionCore, tiling: Tiling) -> None:
        core.vector(core.costs.row_maximum(4, 4), label="sort", run=("sort",))

    mas, layer = get_dataflow("mas"), a_layer()
    with pytest.raises(ProgramError, match=r"^command 'sort': no operation is registered under 'sort'$"):
        run_on_numbers(with_lowering(mas, lower), layer, EDGE, a_tiling(mas, layer), *inputs(layer))
    with pytest.raises(ProgramError, match="operation 'scores' is registered already"):
        operation("scores")(lambda chip, run: None)


def test_scores_are_in_dram_once() -> None:
    """A pass that runs before the one that feeds it, and a pass that runs twice."""
    layerwise, layer = get_dataflow("layerwise"), a_layer()
    tiling = a_tiling(layerwise, layer)
    scores, softmax, values = layerwise.phases
    for phases, text in (
        ((softmax, values), r'^"load S" .* loads S of rows 0-3 .* and key tile 0, which is not all in DRAM yet$'),
        ((scores, scores), r'^"store S" .* stores S of rows 0-3 .* and key tile 0, which was stored before$'),
        ((scores, softmax, values, values), r'^"store O" .* stores O of rows 0-3 .*, which was stored before$'),
    ):
        partial = replace(layerwise, phases=phases)
        with pytest.raises((HazardError, InputError), match=text):
            run_on_numbers(partial, layer, EDGE, {p.name: tiling[p.name] for p in partial.parameters}, *inputs(layer))


def test_resident_tiles_with_one_slot_depth() -> None:
    """depth=1 keeps one copy of a head's tiles, as depth=2 does."""
    for name in ("flat", "flash2"):
        dataflow, layer = get_dataflow(name), a_layer(query_heads=2, kv_heads=2)
        check(dataflow, layer, resident=1, depth=1)
        costs, used = AttentionCosts(layer, EDGE), []
        for depth in (1, 2):
            builder = ProgramBuilder(AttentionCore.engines(1), [AttentionCore.channel(costs)])
            core = AttentionCore(costs, n_groups=2, builder=builder)
            dataflow.phases[0].lower(core, a_tiling(dataflow, layer, resident=1, depth=depth))
            used.append(core.used_bytes)
        assert used[0] == used[1]
