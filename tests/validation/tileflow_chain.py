"""Two chained products without softmax, O[M, N] = (Q[M, K] K'[K, L]) V[L, N], as TileFlow's RTL runs them.

TileFlow (MICRO 2023) published the cycles that the RTL of its chip takes for 131 mappings of this chain. What they test
are engine and machine: array, buffer and DRAM cost here what they cost every dataflow. The outline of the schedule is
published too: rows are cut into blocks; the scores S of a block gather over slabs K'[k, all L], its output over tiles
V[l, all N]; S stays on chip. How the core runs the blocks is **in no source. It was inferred from these same 131
measurements**, and stands here as :class:`ChainRules`:

* ``contexts`` = 4 row blocks are in flight, each with one tile slot. DRAM and array serve them in strict rotation, so
  that three of them hide the loading of the fourth.
* ``result_buffers`` = 2 take the array's results. A context always uses the same one (its number modulo 2), until its
  command has retired: for the last slab of a block, until the pass over S has ended.
* ``staging_blocks`` = 2 blocks at most are between asking for their last slab and the end of their pass.
* ``stationary_port``: what stays in the array comes on a path beside the cache's read port.

"Result buffer" and "staging block" are our names for what the timing shows. The pass over S, one element-wise
operation, shows in the published counts of words: there is one more M L in, and one more M L out, than the products
need. What each part is worth over the 131 mappings (``tests/validation`` computes and holds these):

============================================== ============ ============
error of the cycles                            mean %       worst %
============================================== ============ ============
all of it, on the machine ``tileflow-rtl``     0.83         2.1
1 context                                      55.26        100.9
2 contexts                                     3.33         17.1
3 contexts                                     3.87         21.9
5 contexts                                     1.07         2.9
8 contexts, in a larger cache                  1.12         4.9
no limit of result buffers                     0.93         2.9
no limit of staging blocks                     1.14         4.4
neither limit                                  1.24         5.3
what stays in the array on the read port too   1.16         5.5
fill and drain hidden / paid for each pass     1.49 / 6.42  10.2 / 40.7
48 vector lanes, not 16                        1.29         5.0
one DRAM port for loads and stores             2.45         7.2
============================================== ============ ============

No number here or in the machine's file is fitted: fill and drain is the textbook 2 R + C - 2 = 46 cycles, once per
command. The error that is left has one sign, always early, and is nearly all 6 cycles for each DRAM transfer, which
are published nowhere. The two limits and "once per command" are known from the 29 mappings with blocks of 64 rows only:
the others mostly wait for DRAM, and a choice without those 29 would fall on "each pass", 27 % off on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tileflow_chain_costs import ChainCosts

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.dram import bytes_per_cycle, port_names
from tilewright.hw_models.energy import Counters
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.engine.program import Channel, Engine, Program, ProgramBuilder
from tilewright.sim.lowering.costs import Work
from tilewright.units import BITS_PER_BYTE, ceil_div

__all__ = ["Chain", "ChainRules", "ChainStep", "ChainTiling", "Traffic", "chain_program", "traffic"]

# Inferred from the 131 measured cycle counts and in no source; what each is worth stands in the text above.
CONTEXTS = 4
RESULT_BUFFERS = 2
STAGING_BLOCKS = 2

LOAD, STORE, MATRIX, VECTOR = range(4)
ENGINES = tuple(Engine(kind, kind) for kind in ("load", "store", "matrix", "vector"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Extents of O[rows, width] = (Q[rows, depth] K'[depth, keys]) V[keys, width]: M, L, K and N of the publication."""

    rows: int
    keys: int
    depth: int
    width: int
    number_format: str = "fp16"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainTiling:
    """Rows of a block, depth of a slab of K', keys of a tile of V: micro_M, micro_K and micro_L of the publication."""

    rows: int
    depth: int
    keys: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainRules:
    """How row blocks share the core: **inferred from the measurements, in no source** (see the module's text).

    ``result_buffers`` and ``staging_blocks`` of 0 stand for as many as are asked for.
    """

    contexts: int = CONTEXTS
    result_buffers: int = RESULT_BUFFERS
    staging_blocks: int = STAGING_BLOCKS
    stationary_port: bool = True

    def __post_init__(self) -> None:
        if self.contexts < 1 or self.result_buffers < 0 or self.staging_blocks < 0:
            raise InputError(f"a chain needs 1 context or more and no negative limits, given {self}")


class ChainStep(NamedTuple):
    """What a command does to numbers.

    ``context`` holds rows [row, row + n_rows) of Q, S and O. [at, at + size) is the part of the depth (for "load Q",
    "load K", "Q K") or of the keys (for "load V", "S V") that it works on; else it is the whole width of the rows.
    """

    label: str
    context: int
    row: int
    n_rows: int
    at: int
    size: int


class Traffic(NamedTuple):
    """Bits between DRAM and the working buffer, and between the buffer and the units ("reg"), as the set counts."""

    mem_to_buf: int
    buf_to_mem: int
    buf_to_reg: int
    reg_to_buf: int


def traffic(program: Program) -> Traffic:
    """The four columns of traffic of a :func:`chain_program`, by counting its own commands."""
    n_bytes = [0, 0, 0, 0]
    for engine, command, times in program.commands():
        counters: Counters = command.cost.counters
        if engine in (LOAD, STORE):
            n_bytes[0] += times * counters.dram_read_bytes
            n_bytes[1] += times * counters.dram_write_bytes
        else:
            n_bytes[2] += times * sum(counters.buffer_read_bytes.values())
            n_bytes[3] += times * sum(counters.buffer_write_bytes.values())
    return Traffic(*(n * BITS_PER_BYTE for n in n_bytes))


def chain_program(
    chain: Chain, tiling: ChainTiling, machine: MachineSpec, *, rules: ChainRules | None = None, unroll: bool = False
) -> Program:
    """The program of ``chain`` on one core of ``machine``; every command's ``cost`` is a ``Work``.

    With ``unroll`` there are no loops, and ``run`` of a command is its :class:`ChainStep`. Raises InputError for a tile
    that is larger than what it cuts, and MappingError when the blocks in flight do not fit in the working buffer.
    """
    for name in ("rows", "depth", "keys"):
        given, most = getattr(tiling, name), getattr(chain, name)
        if not 1 <= given <= most:
            raise InputError(f'tile "{name}": given {given}, allowed 1 to {most}')
    lowering = _Lowering(chain, tiling, machine, rules or ChainRules(), unroll=unroll)
    lowering.all_rows()
    return lowering.builder.build()


class _Block(NamedTuple):
    """A row block in its context; ``row`` is right only when unrolling."""

    context: int
    row: int
    n_rows: int


class _Lowering:
    """The loop nest, and under it the commands."""

    def __init__(
        self, chain: Chain, tiling: ChainTiling, machine: MachineSpec, rules: ChainRules, *, unroll: bool
    ) -> None:
        self.chain, self.tiling, self.rules = chain, tiling, rules
        self.costs = ChainCosts(machine, chain.number_format, stationary_port=rules.stationary_port)
        channels = [Channel(name, bytes_per_cycle(machine)) for name in port_names(machine)]
        self.write_channel = len(channels) - 1
        self.builder = b = ProgramBuilder(ENGINES, channels, unroll=unroll)
        contexts = range(min(rules.contexts, ceil_div(chain.rows, tiling.rows)))
        self._reserve(len(contexts), machine)
        self.slot = [b.semaphore(f"tile slot {c} free", 1, is_slot=True) for c in contexts]
        self.tile = [b.semaphore(f"tile {c} loaded") for c in contexts]
        self.scores = [b.semaphore(f"S {c} complete") for c in contexts]
        self.output = [b.semaphore(f"O {c} complete") for c in contexts]
        buffers = [b.semaphore(f"result buffer {i} free", 1, is_slot=True) for i in range(rules.result_buffers)]
        self.result = [buffers[c % len(buffers) :][:1] if buffers else [] for c in contexts]
        staging = rules.staging_blocks
        self.staging = [b.semaphore("staging block free", staging, is_slot=True)] if staging else []

    def _reserve(self, n_contexts: int, machine: MachineSpec) -> None:
        """Each context holds S, O, and a slot for a tile of Q with its slab of K', or for a tile of V."""
        chain, tiling, size = self.chain, self.tiling, self.costs.n_bytes
        slab = size(tiling.rows * tiling.depth) + size(tiling.depth * chain.keys)
        used = {
            "S": n_contexts * size(tiling.rows * chain.keys),
            "O": n_contexts * size(tiling.rows * chain.width),
            "tiles": n_contexts * max(slab, size(tiling.keys * chain.width)),
        }
        self.builder.buffer_bytes = used
        buffer = machine.working_buffer
        if sum(used.values()) > buffer.capacity_bytes:
            raise MappingError(
                resource=f"buffer {buffer.name}",
                demand=sum(used.values()),
                limit=buffer.capacity_bytes,
                unit="bytes",
                levers="use a smaller row, depth or key tile",
            )

    # -- the loop nest -----------------------------------------------------------------------------------

    def all_rows(self) -> None:
        """Rounds of as many row blocks as there are contexts; what is left makes a shorter one."""
        height, contexts = self.tiling.rows, self.rules.contexts
        n_rounds, left = divmod(self.chain.rows, height * contexts)
        for trip in self.builder.loop(n_rounds, name="rounds"):
            first = trip * height * contexts
            self.one_round([_Block(c, first + c * height, height) for c in range(contexts)])
        if left:
            first = self.chain.rows - left
            self.one_round([_Block(c, first + at, size) for c, (at, size) in enumerate(_pieces(left, height))])

    def one_round(self, blocks: Sequence[_Block]) -> None:
        """A row block in each context, from its first slab to its stored output."""
        for at, depth, last in self._cut(self.chain.depth, self.tiling.depth, "slabs"):
            for block in blocks:
                self.load_slab(block, at, depth, waits=self.staging if last else [])
                self.add_to_scores(block, at, depth, last=last)
        for block in blocks:
            self.pass_over_scores(block)
        for at, keys, last in self._cut(self.chain.keys, self.tiling.keys, "tiles"):
            for block in blocks:
                self.load_values(block, at, keys)
                self.add_to_output(block, at, keys, last=last)
        for block in blocks:
            self.store_output(block)

    def _cut(self, extent: int, tile: int, name: str) -> Iterator[tuple[int, int, bool]]:
        """(begin, size, is the last one) of the pieces of ``extent``: a loop over whole ones, then the last one."""
        n_whole = ceil_div(extent, tile) - 1
        for trip in self.builder.loop(n_whole, name=name):
            yield trip * tile, tile, False
        yield n_whole * tile, extent - n_whole * tile, True

    # -- the commands ------------------------------------------------------------------------------------

    def load_slab(self, block: _Block, at: int, depth: int, *, waits: Sequence[int]) -> None:
        """A tile of Q (rows of it), then the slab of K' that it meets (contiguous), into the context's one slot."""
        c = block.context
        work = self.costs.load(block.n_rows, depth, stride_elements=self.chain.depth)
        self._transfer(LOAD, "load Q", block, at, depth, work, waits=[self.slot[c], *waits])
        work = self.costs.load(1, depth * self.chain.keys)
        self._transfer(LOAD, "load K", block, at, depth, work, signals=[self.tile[c]])

    def add_to_scores(self, block: _Block, at: int, depth: int, *, last: bool) -> None:
        """S[rows, all keys] += Q[rows, depth] K'[depth, all keys]; the last one keeps slot and result buffer."""
        c = block.context
        work = self.costs.multiply(block.n_rows, depth, self.chain.keys)
        signals = [self.scores[c]] if last else [self.slot[c], *self.result[c]]
        waits = [self.tile[c], *self.result[c]]
        self._compute(MATRIX, "Q K", block, at, depth, work, waits=waits, signals=signals)

    def pass_over_scores(self, block: _Block) -> None:
        c = block.context
        work = self.costs.element_wise(block.n_rows * self.chain.keys)
        signals = [self.slot[c], *self.result[c], *self.staging]
        self._compute(VECTOR, "pass", block, 0, self.chain.keys, work, waits=[self.scores[c]], signals=signals)

    def load_values(self, block: _Block, at: int, keys: int) -> None:
        c = block.context
        work = self.costs.load(1, keys * self.chain.width)
        self._transfer(LOAD, "load V", block, at, keys, work, waits=[self.slot[c]], signals=[self.tile[c]])

    def add_to_output(self, block: _Block, at: int, keys: int, *, last: bool) -> None:
        """O[rows, all width] += S[rows, keys] V[keys, all width]."""
        c = block.context
        work = self.costs.multiply(block.n_rows, keys, self.chain.width)
        signals = [self.output[c] if last else self.slot[c], *self.result[c]]
        self._compute(MATRIX, "S V", block, at, keys, work, waits=[self.tile[c], *self.result[c]], signals=signals)

    def store_output(self, block: _Block) -> None:
        """The context is taken until its output is in DRAM."""
        c = block.context
        work = self.costs.store(block.n_rows * self.chain.width)
        waits, signals = [self.output[c]], [self.slot[c]]
        self._transfer(STORE, "store O", block, 0, self.chain.width, work, waits=waits, signals=signals)

    def _transfer(
        self,
        engine: int,
        label: str,
        block: _Block,
        at: int,
        size: int,
        work: Work,
        *,
        waits: Sequence[int] = (),
        signals: Sequence[int] = (),
    ) -> None:
        self.builder.transfer(
            engine,
            n_bytes=work.n_bytes,
            latency_cycles=work.cycles,
            channel=self.write_channel if engine == STORE else 0,
            waits=waits,
            signals=signals,
            label=label,
            cost=work,
            run=self._step(label, block, at, size),
        )

    def _compute(
        self,
        engine: int,
        label: str,
        block: _Block,
        at: int,
        size: int,
        work: Work,
        *,
        waits: Sequence[int],
        signals: Sequence[int],
    ) -> None:
        self.builder.compute(
            engine,
            cycles=work.cycles,
            waits=waits,
            signals=signals,
            label=label,
            cost=work,
            run=self._step(label, block, at, size),
        )

    def _step(self, label: str, block: _Block, at: int, size: int) -> ChainStep | None:
        return ChainStep(label, *block, at, size) if self.builder.unroll else None


def _pieces(extent: int, tile: int) -> Iterator[tuple[int, int]]:
    """(begin, size) of the pieces of ``extent``."""
    for at in range(0, extent, tile):
        yield at, min(tile, extent - at)
