"""What the programs of products and convolutions move over each channel is the traffic of their loop nests.

Conventions of the programs, said here as nests: partial sums never leave the chip (the place of C in the working buffer
is outside the loop over k); a part of B that is the only one along n stays through all parts of the rows; all kernel
taps are done in the working buffer; within a row all columns between the first and the last needed one are loaded;
halos are fetched again with each tile, also into a level, which gets what is staged tile by tile; a level's write port
is charged for that where it is slower than the DRAM, or results are written there, too.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tilewright.errors import MappingError
from tilewright.hw_models.hierarchy import OPERANDS, Operand
from tilewright.hw_models.links import multicasts
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import BufferSpec, LinkSpec, MachineSpec
from tilewright.sim.dataflows.gemm.kept_halo import KEPT_HALO, whole_tiling
from tilewright.sim.dataflows.gemm.space import KEEPS_A, KEEPS_B
from tilewright.sim.dataflows.gemm.stages import n_sharing, staged
from tilewright.sim.engine.run import run_program
from tilewright.sim.hierarchy.nest import LoopNest
from tilewright.sim.hierarchy.traffic import Keep, Loop, Moved, traffic
from tilewright.sim.lowering.evaluation import build_phase
from tilewright.sim.lowering.levels import DRAM_CHANNEL, level_called, levels_of, link_channel
from tilewright.sim.lowering.mapping import Dataflow, Tiling, get_dataflow
from tilewright.testing.products import tilings
from tilewright.units import ceil_div
from tilewright.workloads.conv_window import ConvWindow
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.homes import DRAM, Homes

N_EXAMPLES = int(os.environ.get("TILEWRIGHT_FUZZ", "60"))  # `make fuzz N=10000` sets this
EDGE = load_machine("edge-16x16")
FAR = tuple(
    BufferSpec(name=name, capacity_kib=kib, read_bytes_per_cycle=32, write_bytes_per_cycle=16)
    for name, kib in (("l2", 64), ("l3", 4096))
)
PJ = {"l1": 1.0, "l2": 2.0, "l3": 3.0}
MACHINE = replace(
    EDGE,
    buffers=(*EDGE.buffers, *FAR),
    energy=replace(EDGE.energy, buffer_read_pj_per_byte=PJ, buffer_write_pj_per_byte=PJ),
).with_(**{"matrix.rows": 4, "matrix.columns": 4, "dram.burst_bytes": 1})
FLOWS = [get_dataflow(name, "gemm") for name in ("gemm", "staged")]
STAGED = FLOWS[1]


@st.composite
def layers(draw: st.DrawFn, *, halos: bool = False) -> tuple[GemmLayer, LoopNest]:
    """A product, or a convolution without padding whose kernel leaves no rows out; operands in any memory.

    ``halos``: only convolutions whose windows have rows in common.
    """
    home = st.sampled_from([DRAM, DRAM, DRAM, "l2", "l3"])
    sizes = st.integers(1, 9)
    groups, k, n = draw(st.integers(1, 2)), draw(sizes), draw(sizes)
    if not halos and draw(st.booleans()):
        m, window = draw(st.integers(1, 12)), None
        nest = LoopNest(k=n, c=k, ox=m, oy=1, g=groups, map_width=m, map_height=1)
    else:
        fy, fx = draw(st.integers(1 + halos, 3)), draw(st.integers(1, 3))
        sy, sx = draw(st.integers(1, fy - halos)), draw(st.integers(1, 3))
        oy, ox, c = draw(sizes), draw(sizes), draw(st.integers(1, 3))
        height, width = (oy - 1) * sy + fy, (ox - 1) * sx + fx
        window = ConvWindow(height, width, oy, ox, fy, fx, sy, sx)
        m, k = oy * ox, c * fy * fx
        nest = LoopNest(
            k=n, c=c, ox=ox, oy=oy, fx=fx, fy=fy, g=groups, stride=(sx, sy), map_width=width, map_height=height
        )
    bits = st.sampled_from([8, 16])
    layer = GemmLayer(
        name="product", groups=groups, m=m, k=k, n=n, a_bits=draw(bits), b_bits=draw(bits), out_bits=draw(bits),
        accumulator_bits=32, compute_format="int8", b_is_weight=draw(st.booleans()), window=window,
        homes=Homes(draw(home), draw(home), draw(home)),
    )  # fmt: skip
    return layer, nest


def nest_nodes(layer: GemmLayer, machine: MachineSpec, tiling: Tiling) -> list[Loop | Keep]:
    """The program of a tiling as a mapping."""
    what, near = staged(layer, levels_of(machine), tiling), machine.working_buffer.name
    m, n, k = (min(tiling[name], getattr(layer, name)) for name in "mnk")
    taps = layer.window.taps if layer.window is not None else 1
    homes = ((layer.homes.a, "input"), (layer.homes.b, "weight"), (layer.homes.out, "output"))
    nodes: list[Loop | Keep] = [Keep(home or "dram", operand) for home, operand in homes]  # type: ignore[arg-type]
    far = what.level.name if what.level is not None else ""
    b_stays = what.columns >= layer.n
    nodes.append(Loop("G", 1))
    nodes += [Keep(far, "weight")] if what.b and b_stays else []
    nodes += rows_of(layer, what.rows)
    nodes += [Keep(far, "input")] if what.a else []
    nodes.append(Loop("K", what.columns))
    nodes += [Keep(far, "weight")] if what.b and not b_stays else []
    a, b = Keep(near, "input"), Keep(near, "weight")
    rows, columns = rows_of(layer, m), [Loop("K", n)]
    depth = [Keep(near, "output"), Loop("C", max(1, k // taps))]
    if tiling["order"] == KEEPS_B:
        return [*nodes, *columns, b, *rows, *depth, a]
    if tiling["order"] == KEEPS_A:
        return [*nodes, *rows, a, *columns, *depth, b]
    return [*nodes, *rows, *columns, *depth, a, b]


def fetch_nodes(layer: GemmLayer, machine: MachineSpec, tiling: Tiling) -> list[Loop | Keep]:
    """The fetches of A into a level: once, in the tiles of the working buffer with their halos."""
    what = staged(layer, levels_of(machine), tiling)
    assert what.level is not None
    rows = [*rows_of(layer, what.rows), *rows_of(layer, min(tiling["m"], layer.m))]
    others = [Keep("dram", "weight"), Keep("dram", "output")]
    return [Keep("dram", "input"), *others, Loop("G", 1), *rows, Keep(what.level.name, "input")]


def rows_of(layer: GemmLayer, rows: int) -> list[Loop | Keep]:
    """Loops over tiles of ``rows`` rows of A: whole output rows of a convolution, or parts of one."""
    if layer.window is None:
        return [Loop("OX", rows)]
    width = layer.window.out_width
    return [Loop("OY", max(1, rows // width)), *([Loop("OX", rows)] if rows < width else [])]


def is_nest(layer: GemmLayer, machine: MachineSpec, tiling: Tiling) -> bool:
    """Whether tiles are rectangles of the map and whole channels; others the programs charge a little more for."""
    if layer.window is None:
        return True
    width, taps = layer.window.out_width, layer.window.taps
    m, k = min(tiling["m"], layer.m), min(tiling["k"], layer.k)
    rows = (m, staged(layer, levels_of(machine), tiling).rows)
    return k % taps == 0 and all(n % width == 0 or (n < width and width % n == 0) for n in rows)


def wanted_bytes(layer: GemmLayer, nest: LoopNest, machine: MachineSpec, tiling: Tiling) -> Counter[int]:
    """Bytes of each channel, by the traffic of the nest; of a piece of a cut product those of all the cores."""
    what, sharing = staged(layer, levels_of(machine), tiling), {"input": "a", "weight": "b"}
    sends = multicasts(machine) and bool(tiling.get("shared", 0))
    moved: dict[tuple[str, Operand], Moved] = {}
    for operand in OPERANDS:
        is_staged = getattr(what, sharing.get(operand, ""), False)
        at_once = (what.level is not None and what.level.is_shared) if is_staged else sends
        nodes = on_cores(layer, nest_nodes(layer, machine, tiling), at_once=at_once)
        counted = traffic(nest, nodes, whole_runs=True)
        if is_staged and operand == "input":
            fetches = on_cores(layer, fetch_nodes(layer, machine, tiling), at_once=at_once)
            counted["dram", "input"] = traffic(nest, fetches, whole_runs=True)["dram", "input"]
        for (memory, of), (reads, writes) in counted.items():
            if sends and is_staged and memory != "dram":  # the copies in space stand above the level
                reads //= n_sharing(layer, machine, sharing[operand])
            if of == operand:
                moved[memory, of] = Moved(reads, writes)
    found = by_channel(layer, machine, moved)
    if what.level is not None and get_dataflow("staged", "gemm").costs(layer, machine).fills(what.level):
        # What is fetched is written, where the port may be the bottleneck.
        bits = {"input": layer.a_bits * what.a, "weight": layer.b_bits * what.b}
        for operand, n_bits in bits.items():
            reads, _ = moved.get(("dram", operand), Moved(0, 0))  # type: ignore[call-overload]
            found[what.level.write_channel] += int(reads * n_bits / 8)
    return +found


def by_channel(layer: GemmLayer, machine: MachineSpec, moved: Mapping[tuple[str, Operand], Moved]) -> Counter[int]:
    """Bytes of each channel; what is fetched into a level takes the DRAM's alone."""
    bits = {"input": layer.a_bits, "weight": layer.b_bits, "output": layer.out_bits}
    found: Counter[int] = Counter()
    for (memory, operand), values in moved.items():
        read_bytes, write_bytes = (int(n * bits[operand] / 8) for n in values)
        if memory == "dram":
            found[DRAM_CHANNEL] += read_bytes + write_bytes
        elif memory != machine.working_buffer.name:
            level = level_called(machine, memory)
            found[level.read_channel] += read_bytes
            found[level.write_channel] += write_bytes if operand == "output" else 0
    return +found


def on_cores(layer: GemmLayer, nodes: list[Loop | Keep], *, at_once: bool) -> list[Loop | Keep]:
    """Pieces as copies in space below the homes, which serve those that need the same once, or one after the other."""
    if layer.whole is None:
        return nodes
    place = next(place for place, node in enumerate(nodes) if isinstance(node, Loop))
    pieces = [Loop("OX", layer.m, at_once)] if layer.window is None else []
    return [*nodes[:place], *pieces, Loop("K", layer.n, at_once), *nodes[place:]]


def bytes_of_program(layer: GemmLayer, flow: Dataflow, machine: MachineSpec, tiling: Tiling) -> Counter[int] | None:
    """Bytes of each channel in a run, but for those of a link; None where the tiling does not fit."""
    (phase,) = flow.phases
    try:
        run = run_program(build_phase(phase, flow.costs(layer, machine), tiling))
    except MappingError:
        return None
    found = Counter(dict(enumerate(run.channel_bytes)))
    if multicasts(machine):
        found.pop(link_channel(machine), None)
    return +found


@settings(max_examples=N_EXAMPLES)
@given(layers(), st.sampled_from(FLOWS), st.data())
def test_bytes_of_every_channel(case: tuple[GemmLayer, LoopNest], flow: Dataflow, data: st.DataObject) -> None:
    layer, nest = case
    tiling = data.draw(tilings(flow, layer, MACHINE)) | {"prefetched": 0}
    if tiling.get("far"):  # what fits whole is seldom held in parts
        tiling |= {name: data.draw(st.integers(1, 3)) for name in ("far_m", "far_n")}
    assume(is_nest(layer, MACHINE, tiling))
    found = bytes_of_program(layer, flow, MACHINE, tiling)
    assert found is None or found == wanted_bytes(layer, nest, MACHINE, tiling)


@settings(max_examples=N_EXAMPLES)
@given(layers(), st.integers(2, 6), st.booleans(), st.booleans(), st.data())
def test_bytes_of_every_channel_on_cores(
    case: tuple[GemmLayer, LoopNest], n_cores: int, is_shared: bool, multicast: bool, data: st.DataObject
) -> None:
    """A product cut along m and n, a convolution along n: what cores share is one transfer where a link or a shared
    level makes it one.
    """
    layer, nest = replace(case[0], groups=1), replace(case[1], g=1)
    link = LinkSpec(kind="crossbar", bytes_per_cycle=8, multicast=True) if multicast else None
    buffers = (*EDGE.buffers, *(replace(buffer, shared_by_cores=is_shared) for buffer in FAR))
    machine = replace(MACHINE, n_cores=n_cores, links=link, buffers=buffers)
    cuts = [cut for cut in layer.cuts(n_cores, shares=True) if layer.window is None or cut.m == layer.m]
    assume(cuts)
    piece = data.draw(st.sampled_from(cuts))
    tiling = data.draw(tilings(STAGED, piece, machine)) | {"prefetched": 0}
    assume(is_nest(piece, machine, tiling))
    nest = replace(nest, k=ceil_div(nest.k, piece.n) * piece.n)  # a piece that is cut short is done whole
    if piece.window is None:
        rows = ceil_div(nest.ox, piece.m) * piece.m
        nest = replace(nest, ox=rows, map_width=rows)
    found = bytes_of_program(piece, STAGED, machine, tiling)
    assert found is None or found == wanted_bytes(piece, nest, machine, tiling)


@settings(max_examples=N_EXAMPLES)
@given(layers(halos=True), st.data())
def test_bytes_of_every_channel_with_halos_kept(case: tuple[GemmLayer, LoopNest], data: st.DataObject) -> None:
    """The place of the input in the working buffer is then outside the loop over rows: each value comes once a pass."""
    layer, nest = case
    assert layer.window is not None
    rows = data.draw(st.integers(1, layer.window.out_height)) * layer.window.out_width
    drawn = data.draw(tilings(KEPT_HALO, layer, MACHINE)) | {"prefetched": 0, "m": rows}
    tiling = whole_tiling(layer, drawn)
    near = MACHINE.working_buffer.name
    homes = nest_nodes(layer, MACHINE, tiling)[:3]
    tile = (*rows_of(layer, min(drawn["m"], layer.m)), Keep(near, "output"))
    nodes = [*homes, Loop("G", 1), Loop("K", drawn["n"]), Keep(near, "weight"), Keep(near, "input"), *tile]
    found = bytes_of_program(layer, KEPT_HALO, MACHINE, drawn)
    assert found is None or found == by_channel(layer, MACHINE, traffic(nest, nodes, whole_runs=True))
