"""Does every figure of a machine move some result? One that is read by nothing would be believed and mean nothing.

Each figure of a few machines, which between them have every field that there is, is changed by half (a choice to
another one), and results on small workloads are looked at until one differs. A field that describes and moves nothing
stands in ``DESCRIPTIVE`` with the reason.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, get_args, get_type_hints

from tilewright.errors import InputError, TilewrightError
from tilewright.hw_models.describe import figures_hash
from tilewright.hw_models.dram_grades import grade_names
from tilewright.hw_models.field_notes import described_classes
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import OPERATION_KINDS, MachineSpec
from tilewright.search import api
from tilewright.search.gpu.predict import kernel_seconds
from tilewright.search.sweep.design_figures import AreaRule, area_mm2, area_rule_of, base_values, peak_tops
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

#: Fields that say something to people and move no result, each with the reason.
DESCRIPTIVE = {
    "MachineSpec.name": "a name",
    "MachineSpec.description": "words for lists",
    "MachineSpec.assumptions": "sentences that results repeat",
    "MachineSpec.sources": "where figures come from",
    "MachineSpec.main": "a name",
    "MachineSpec.pim": "a name, of a file with figures of its own; plans with banks (`search --over pim`) read it",
    "BufferSpec.name": "a name",
    "BufferPartSpec.name": "a name",
    "FallbackSpec.name": "a name",
    "HostLinkSpec.name": "a name",
    "WeightMemorySpec.name": "a name",
    "RowTimingSpec.grade": "a name",
    "DramSpec.capacity_gib": "what a run over time is checked against; it takes no time",
    "BlockSpec.style": "a word for how the block is built; the three styles differ in the other figures",
}

#: Tilings of products and of attention, tried in this order.
TILINGS: tuple[Mapping[str, int], ...] = (
    {"m": 64, "n": 32, "k": 64, "order": 0, "depth": 2, "outputs": 2, "prefetched": 0},
    {"m": 12, "n": 10, "k": 16, "order": 0, "depth": 2, "outputs": 2, "prefetched": 0},
    {"query": 8, "key": 8, "depth": 2, "resident": 0, "overwrite": 0},
    {"query": 8, "key": 8, "depth": 2, "resident": 0, "rows": 8, "interleave": 1},
)

#: Other values of fields that hold a name.
OTHERS = {
    "BufferPartSpec.holds": ("inputs",),
    "GpuSpec.calibrated_as": "h200",
    "MatrixUnitSpec.accumulators": "fp32",
    "MatrixUnitSpec.attention_engine": None,
    "MatrixUnitSpec.engine": None,
    "MatrixUnitSpec.engine_options": "1/2",
}

#: On a unit that does element-wise work in its array.
FUSED = "attention:heads=2,seq=24,head_dim=16,qkv_format=fp16"

Outcome = Any
Probe = Callable[[MachineSpec], Outcome]


# --- machines that have every field --------------------------------------------------------------------------------


def _systolic() -> MachineSpec:
    return load_machine("edge-16x16").with_(
        **{
            "n_cores": 2,
            "clock_ghz": 0.8,
            "matrix.rows": 8,
            "matrix.columns": 8,
            "matrix.partial_use": True,
            "matrix.accumulators": {"fp16": "fp16"},
            "matrix.elementwise_cycles": {"add": 2, "sub": 3, "mul": 2, "max": 3, "exp": 7, "div": 5},
            "energy.matrix_elementwise_pj": {"add": 1, "sub": 1, "mul": 1, "max": 1, "exp": 1, "div": 1},
            "vector.lanes": 8,
            "buffers.l1.capacity_kib": 8,
            "buffers.l1.read_bytes_per_cycle": 16,
            "buffers.l1.write_bytes_per_cycle": 16,
            "dram.detail": "row_buffer",
            "dram.bandwidth_gb_per_s": 8,
            "dram.sustained_share": 0.8,
            "energy.static_mw": 50,
            "area": {"matrix_mm2": 1, "vector_mm2": 1, "buffers_mm2": 1, "total_mm2": 4},
        }
    )


def _appliance() -> MachineSpec:
    """What only whole networks meet: weights in a memory of their own, operators elsewhere, a host, fixed costs."""
    return load_machine("edge-16x16").with_(
        **{
            "matrix.rows": 4,
            "matrix.columns": 4,
            "vector.lanes": 2,
            "vector.passes_results": True,
            "vector.arrangement": "pipeline",
            "vector.rates": {"depthwise": 5.0, "pool": 8.0, "reduction": 9.0, "elementwise": 8.0},
            "weights.compression": 1.5,
            "weights.kept_kib": 0.68,  # 0.56 of which activations take
            "weights.beside_activations": True,
            "weights.memory": {
                "name": "flash",
                "bandwidth_gb_per_s": 0.2,
                "first_access_latency_ns": 200,
                "burst_bytes": 48,
                "read_pj_per_byte": 3,
            },
            "lacks": ["elementwise:gelu", "softmax"],
            "fallback": {"name": "cpu", "giga_operations_per_s": 2, "bandwidth_gb_per_s": 1, "per_operator_us": 4},
            "host": {"name": "usb", "bandwidth_gb_per_s": 0.3, "per_transfer_us": 5},
            "overheads": {"per_inference_us": 10, "per_layer_us": 3},
        }
    )


def _own_timing() -> MachineSpec:
    """As :func:`_systolic`, with row timing of its own: few banks and short rows, so that rows are what takes time."""
    rows = {"n_banks": 4, "row_bytes": 256, "rows_ahead": 2, "interleave_bytes": 64, "burst_length": 8}
    times = {"trcd_ns": 40.3, "trp_ns": 45.1, "tras_ns": 90.7, "trtp_ns": 50.2, "trrd_ns": 30.9, "tfaw_ns": 130.7}
    changes = {f"dram.timing.{name}": value for name, value in (rows | times).items()}
    wide = {"n_cores": 1, "matrix.rows": 32, "matrix.columns": 32, "buffers.l1.capacity_kib": 64}
    return _systolic().with_(**changes, **wide)


def _two_channels() -> MachineSpec:
    return _own_timing().with_(**{"dram.bandwidth_gb_per_s": 16})


def _two_levels() -> MachineSpec:
    machine = load_machine("tileflow-cloud")
    return machine.with_(**{"n_cores": 2, "matrix.rows": 8, "matrix.columns": 8, "buffers.0.capacity_kib": 8})


def _linked() -> MachineSpec:
    """Cores on a narrow bus that brings the same bytes to all of them."""
    links = {"kind": "bus", "bytes_per_cycle": 4, "hop_cycles": 5, "multicast": True}
    small = {
        "matrix.rows": 4,
        "matrix.columns": 4,
        "dram.bandwidth_gb_per_s": 2,
        "dma": {"engines": 2, "start_cycles": 9},
    }
    return load_machine("edge-16x16").with_(**{"n_cores": 4, "links": links, **small})


def _split() -> MachineSpec:
    """A small working buffer in parts with narrow ports."""
    ports = {"read_bytes_per_cycle": 2, "write_bytes_per_cycle": 2}
    parts = [
        {"name": "weight_buffer", "capacity_kib": 0.25, "holds": ["weights"], **ports},
        {"name": "accumulators", "capacity_kib": 0.5, "holds": ["sums"], **ports},
    ]
    return load_machine("edge-16x16").with_(
        **{"matrix.rows": 4, "matrix.columns": 4, "buffers.l1.capacity_kib": 1, "buffers.l1.parts": parts}
    )


def _rows() -> MachineSpec:
    """With little room in its elements, so that room is what sizes a set of rows."""
    pads = {"filter_words": 24, "psum_words": 8}
    return load_machine("eyeriss").with_(**{f"matrix.scratchpads.{name}": value for name, value in pads.items()})


def _blocks() -> MachineSpec:
    return load_machine("nvdla-2048").with_(
        **{
            "matrix.stationarity": "weight",
            "matrix.rows": 4,
            "matrix.columns": 4,
            "matrix.block.depth": 32,
            "matrix.block.step_cycles": 2,
            "matrix.block.sums": "by_tap",
            "matrix.block.joined_values": 12,
            "matrix.block.joined_rows": 2,
            "matrix.block.pixels": "of_a_row",
            "matrix.block.stripe": {"least_steps": 8, "most_steps": 32},
        }
    )


def _helped() -> MachineSpec:
    return _appliance().with_(**{"fallback.giga_operations_by_kind": {"elementwise": 0.5}})


def _taps() -> MachineSpec:
    """As :func:`_blocks`, tap by tap and without a way of its own for first layers."""
    block = {"sums": "by_tap", "depth": 32, "joined_values": 0, "joined_rows": 1}
    return load_machine("nvdla-2048").with_(**{f"matrix.block.{name}": value for name, value in block.items()})


def _engine() -> MachineSpec:
    """With energies by node, and two quantised engines."""
    node = {"energy.node_nm": 22, "energy.dram_kind": "ddr4"}
    return load_machine("edge-16x16").with_(
        **node, **{"matrix.engine": "mixpe", "matrix.attention_engine": "sageattention"}
    )


def _engine_with_options() -> MachineSpec:
    return _engine().with_(**{"matrix.engine_options": {"slots": "1/4", "weights": "int4-g64"}})


def _sparse() -> MachineSpec:
    sparsity = {"kept": 2, "of": 3, "index_bits": 2}
    return load_machine("edge-16x16").with_(**{"matrix.sparsity": sparsity, "matrix.rows": 4, "matrix.columns": 4})


def _sparse_anyhow() -> MachineSpec:
    return _sparse().with_(**{"matrix.sparsity": {"most_speedup": 1.5, "index_bits": 2}})


def _shifting() -> MachineSpec:
    """With shifters for products with powers of two, and energies of their own."""
    own = {"matrix.shift_adds_per_pe_per_cycle": {"int8": 2.0}}
    return load_machine("edge-16x16").with_(**own, **{"energy.shift_pj": {"int8": 0.3}, "energy.add_pj": {"int8": 0.4}})


def _patches() -> MachineSpec:
    """An engine that does all taps of a kernel at once, on patches of the map."""
    block = {
        "style": "dot_product_tree",
        "depth": 4,
        "step_cycles": 1,
        "pipeline_cycles": 8,
        "patch_columns": 3,
        "strided_rows": 2,
        "finish_cycles": 9,
        "finish_column_cycles": 4.0,
        "kernels": [
            {"height": 3, "width": 3, "load_cycles": 14, "column_cycles": 8},
            {"height": 1, "width": 1, "load_cycles": 9, "column_cycles": 8, "engines": 2, "channels_each": 4},
        ],
    }
    changes = {"matrix.rows": 9, "matrix.columns": 16, "matrix.stationarity": "output", "matrix.block": block}
    return load_machine("gap9-ne16").with_(**changes)


def _lined() -> MachineSpec:
    """A unit for depthwise convolutions behind an engine that takes a pixel at a time."""
    cpu = {"name": "cpu", "giga_operations_per_s": 2, "bandwidth_gb_per_s": 1}
    changes = {"lacks": ["softmax"], "fallback": cpu, "dram.bandwidth_gb_per_s": 40, "overheads.per_layer_us": 0}
    return load_machine("codenet-ultra96").with_(**changes)


def _gpu() -> MachineSpec:
    """With two measurements of the L2, both near the working set that it is judged by."""
    points = [{"working_set_mb": 14, "read_tb_per_s": 10}, {"working_set_mb": 18, "read_tb_per_s": 8}]
    return load_machine("h200").with_(**{"gpu.l2_read": points})


def _gpu_without_measurement() -> MachineSpec:
    return load_machine("l40s")


def _grouped() -> MachineSpec:
    """With a slow group, one like the main one in half of its parts, and a processor."""
    tables = {"add": 2, "sub": 2, "mul": 2, "max": 2, "exp": 5, "div": 5}
    dsp: dict[str, Any] = {
        "n_cores": 4,
        "clock_ghz": 2.0,
        "matrix": {
            "rows": 2,
            "columns": 64,
            "stationarity": "output",
            "fill_drain": "hidden",
            "multiplies_per_pe_per_cycle": {"fp16": 2, "int8": 4},
            "elementwise_cycles": tables,
        },
        "vector": {"lanes": 64, "cycles": tables, "startup_cycles": 2, "reduction_depth_cycles": 2},
        "buffers": [{"name": "tcm", "capacity_kib": 64, "read_bytes_per_cycle": 32, "write_bytes_per_cycle": 32}],
        "reaches": ["l2"],
        "links": {"kind": "bus", "bytes_per_cycle": 1},
        "dma": {"engines": 1, "start_cycles": 40},
        "lacks": ["conv:depthwise"],
        "per_layer_us": 0.1,
        "energy": {
            "multiply_accumulate_pj": {"fp16": 3, "int8": 1},
            "register_pj_per_multiply_accumulate": 2,
            "matrix_elementwise_pj": tables,
            "vector_pj": tables,
            "buffer_read_pj_per_byte": {"tcm": 4},
            "buffer_write_pj_per_byte": {"tcm": 5},
        },
    }
    cpu = {"processor": {"name": "cpu", "giga_operations_per_s": 1, "bandwidth_gb_per_s": 1}, "per_layer_us": 0}
    edge = load_machine("edge-16x16")
    l2 = {
        "name": "l2",
        "capacity_kib": 8,
        "read_bytes_per_cycle": 8,
        "write_bytes_per_cycle": 8,
        "shared_by_cores": True,
    }
    small = {"matrix.rows": 2, "matrix.columns": 2, "vector.lanes": 1, "overheads.per_layer_us": 0.5}
    costs = {f"energy.buffer_{way}_pj_per_byte.l2": 2 for way in ("read", "write")}
    buffers = [dataclasses.asdict(edge.buffers[0]), l2]
    return edge.with_(**small, **costs, buffers=buffers, groups={"dsp": dsp, "cpu": cpu})


MACHINES = (
    _systolic,
    _appliance,
    _own_timing,
    _two_channels,
    _two_levels,
    _linked,
    _split,
    _rows,
    _blocks,
    _taps,
    _helped,
    _engine,
    _engine_with_options,
    _patches,
    _lined,
    _sparse,
    _sparse_anyhow,
    _shifting,
    _gpu,
    _gpu_without_measurement,
    _grouped,
)


# --- results -----------------------------------------------------------------------------------------------------


@cache
def _network() -> OperatorStream:
    b = Layers("small", activations="int8", weights="int8")
    x = b.elementwise("abs", b.input("image", (1, 3, 6, 6)), name="alone")
    x = b.elementwise("relu", b.conv(x, 4, 3, "first", padding=1), name="relu")
    x = b.elementwise("gelu", b.conv(x, 4, 3, "depthwise", padding=1, groups=4), name="gelu")
    x = b.max_pool(b.conv(x, 4, 3, "second"), 2, "pool", stride=2, padding=0)
    return b.finish([b.global_mean(x, "mean")]).with_weight_density(0.5)


def _numbers(value: Any) -> Any:
    """The figures in what a result says, without words."""
    if isinstance(value, Mapping):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers(item) for item in value]
    return value if isinstance(value, int | float) else None


def _layer(text: str, own: MachineSpec, dataflow: str | None = None) -> Probe:
    """A layer with a tiling that fits ``own``: a change must be seen in its run, not only in another choice."""

    def figures(machine: MachineSpec) -> Outcome:
        tiling = _tiling(text, own, dataflow)
        return _numbers(api.simulate(text, machine, dataflow, tiling).to_dict())

    return figures


@cache
def _tiling(text: str, machine: MachineSpec, dataflow: str | None) -> Mapping[str, int]:
    """A tiling of middle size where it fits, else the best."""
    for tiling in TILINGS:
        try:
            api.simulate(text, machine, dataflow, tiling)
        except InputError:
            continue
        return tiling
    return dict(api.simulate(text, machine, dataflow).tiling)


def _network_figures(machine: MachineSpec) -> Outcome:
    number_format = next(iter(machine.matrix.multiplies_per_pe_per_cycle))
    found = api.simulate_network(
        _network(), machine, weights=number_format, activations=number_format, keep_mappings=False
    )
    return _numbers(found.to_dict())


def _area_of_a_design(machine: MachineSpec) -> Outcome:
    """The area that a sweep gives the machine by a rule of its own, and its peak rate."""
    values = base_values(machine)
    return area_mm2(AreaRule(mm2_per_pe=1, mm2_per_lane=2, mm2_per_kib=3), values), peak_tops(values)


def _kernel(operator: Any, family: str, **shape: int) -> Probe:
    return lambda machine: kernel_seconds(machine, operator, family, **shape)


def _on_dsp(text: str, dataflow: str, tiling: Mapping[str, int]) -> Probe:
    return lambda machine: _numbers(api.simulate(text, machine.group("dsp"), dataflow, tiling).to_dict())


def _group_probes() -> Iterator[Probe]:
    for text in (FUSED, f"{FUSED},soft_cap=true"):
        yield _on_dsp(text, "fusemax", TILINGS[-1])
    yield _on_dsp("gemm:m=64,n=64,k=64", "gemm", TILINGS[1])
    yield _network_figures


def _probes(machine: MachineSpec) -> Iterator[Probe]:
    yield area_rule_of
    yield _area_of_a_design
    if machine.groups:
        yield from _group_probes()
        return
    if machine.lacks or machine.matrix.sparsity is not None:
        yield _network_figures
    if machine.gpu is not None:
        yield _kernel("gemm", "bf16", m=4096, n=4096, k=512)
        yield _kernel("gemm", "bf16", m=64, n=256, k=512)
        yield _kernel("gemm", "tf32", m=4096, n=4096, k=4096)
        yield _kernel("gemm", "int8_wo", m=2048, n=2048, k=512)
        yield _kernel("gemm", "bf16", m=512, n=512, k=131072)
        for family in ("fa3_prefill", "fa2_prefill", "fa3_decode"):
            yield _kernel("attention", family, batch=4, queries=512, keys=512, heads=16, kv_heads=4, head_dim=128)
        return
    first = next(iter(machine.matrix.multiplies_per_pe_per_cycle))
    if machine.dram.timing is not None:
        yield _layer("gemm:m=64,n=64,k=256", machine)  # a row of DRAM for each row of a tile
    yield _layer(f"gemm:m=42,n=20,k=33,format={first}", machine)
    yield _layer(f"attention:heads=2,seq=24,head_dim=16,qkv_format={first}", machine)
    yield _layer(f"conv:in=3x16x16,out_channels=8,kernel=3,format={first}", machine)
    if machine.matrix.engine is not None:
        yield _layer("gemm:m=42,n=20,k=128,a_format=int8,b_format=int4", machine)
        yield _layer("attention:heads=2,seq=24,head_dim=16,qkv_format=fp16", machine)
    if machine.matrix.shift_adds_per_pe_per_cycle is not None:
        yield _layer("shift_matmul:m=42,n=20,k=33,primitive=shift,format=int8", machine)
    if machine.matrix.block is not None:
        yield _layer(f"conv:in=40x9x9,out_channels=8,kernel=3,stride=2,format={first}", machine)
    yield _layer(f"attention:heads=2,seq=24,head_dim=16,qkv_format={first}", machine, "fusemax")
    yield _layer(f"attention:heads=2,seq=24,head_dim=16,qkv_format={first},soft_cap=true", machine, "fusemax")
    if machine.matrix.scratchpads is not None:
        for layer in ("in=8x20x20,out_channels=16,kernel=3", "in=64x24x24,out_channels=64,kernel=3"):
            yield _layer(f"conv:{layer},format={first}", machine, "row_stationary")
    if machine.matrix.scratchpads is not None:
        yield _network_figures


def _outcome(probe: Probe, machine: MachineSpec) -> Outcome:
    try:
        return probe(machine)
    except TilewrightError as refusal:
        return f"refused: {type(refusal).__name__}"


# --- figures -----------------------------------------------------------------------------------------------------


def _figures(value: Any, path: str = "") -> Iterator[tuple[str, str, Any, Any]]:
    """(path, class and field, type, value) of everything that is set."""
    hints = get_type_hints(type(value))
    for entry in dataclasses.fields(value):
        below = f"{path}.{entry.name}".lstrip(".")
        yield from _of(getattr(value, entry.name), below, f"{type(value).__name__}.{entry.name}", hints[entry.name])


def _of(item: Any, path: str, name: str, hint: Any) -> Iterator[tuple[str, str, Any, Any]]:
    if dataclasses.is_dataclass(item):
        yield path, name, hint, None  # a part is there
        yield from _figures(item, path)
    elif isinstance(item, Mapping):
        for key, below in item.items():
            yield from _of(below, f"{path}.{key}", name, hint)
    elif isinstance(item, tuple) and item and dataclasses.is_dataclass(item[0]):
        for at, below in enumerate(item):
            yield from _of(below, f"{path}.{getattr(below, 'name', at)}", name, hint)
    elif item is not None and item != ():
        yield path, name, hint, item


def _others(value: Any, name: str, hint: Any) -> Iterator[Any]:
    """Other values that the field may have: half of it first; where something else is the limit, less or more."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from dict.fromkeys([value // 2, value * 2, value + 1, value // 8, value * 8])
    elif isinstance(value, float):
        yield from (value / 2, value * 2, value * 1.4, value / 8, value * 8)
    elif name == "DramSpec.grade":
        yield from (grade for grade in grade_names() if grade != value)
    elif name in OTHERS:
        yield OTHERS[name]
    elif isinstance(value, tuple):
        yield from (value[1:], value[:1])
    else:
        choices = [one for part in get_args(hint) for one in (get_args(part) or (part,))]
        yield from (other for other in choices if isinstance(other, str) and other != value)


def _moved(make: Callable[[], MachineSpec], path: str, name: str, hint: Any, value: Any) -> bool:
    machine, probes = make(), _probes_of(make)
    for other in _others(value, name, hint):
        try:
            changed = machine.with_(**{path: other})
        except InputError:
            continue
        if any(_outcome(probe, changed) != _before(make, at) for at, probe in enumerate(probes)):
            return True
    return False


@cache
def _probes_of(make: Callable[[], MachineSpec]) -> tuple[Probe, ...]:
    return tuple(_probes(make()))


@cache
def _before(make: Callable[[], MachineSpec], at: int) -> Outcome:
    return _outcome(_probes_of(make)[at], make())


def _places() -> dict[str, list[tuple[Callable[[], MachineSpec], str, str, Any, Any]]]:
    """Where each field (of tables by operation, each key) is set: on which machine, at which path."""
    found: dict[str, list[tuple[Callable[[], MachineSpec], str, str, Any, Any]]] = {}
    fields = [(one.__name__, entry) for one in described_classes(MachineSpec) for entry in dataclasses.fields(one)]
    defaults = {f"{name}.{entry.name}": entry.default for name, entry in fields}
    for make in MACHINES:
        for path, name, hint, value in _figures(make()):
            if name not in DESCRIPTIVE and value not in (None, 0, False) and not name.startswith("SourceSpec."):
                last = path.rpartition(".")[2]
                key = f"{name}.{last}" if last in OPERATION_KINDS else name
                found.setdefault(key, []).append((make, path, name, hint, value))
    for key, places in found.items():  # where it says more than what is as if left out, first
        found[key] = sorted(places, key=lambda place: place[4] == defaults.get(place[2]))
    return found


def test_every_figure_moves_a_result() -> None:
    unread = [name for name, places in _places().items() if not any(_moved(*place) for place in places)]
    assert not unread, (
        f"read by nothing: {', '.join(unread)}; let a result depend on it, refuse it where it means nothing, or say in "
        "DESCRIPTIVE (and in the field's docstring) why it only describes"
    )


def test_the_machines_of_this_test_have_every_field() -> None:
    seen = {name for make in MACHINES for _, name, _, _ in _figures(make())}
    known = [
        f"{one.__name__}.{entry.name}" for one in described_classes(MachineSpec) for entry in dataclasses.fields(one)
    ]
    lacking = [name for name in known if name not in seen and name not in DESCRIPTIVE]
    unknown = sorted(set(DESCRIPTIVE) - set(known))
    lacking = [name for name in lacking if not name.startswith("SourceSpec.")]
    assert not lacking, f"give {', '.join(lacking)} to one of the machines of this test, so that it is tried"
    assert not unknown, f"no such field: {', '.join(unknown)}"


def test_every_figure_is_part_of_the_hash_that_results_carry() -> None:
    """Two machines that differ share no hash, and so every figure has its row with a source in ``tilewright show``."""
    unseen = []
    for name, places in _places().items():
        make, path, field, hint, value = places[0]
        machine = make()
        for other in _others(value, field, hint):
            with contextlib.suppress(InputError):
                if figures_hash(machine.with_(**{path: other})) == figures_hash(machine):
                    unseen.append(name)
                break
    assert not unseen, f"not in describe.figures: {', '.join(unseen)}"
