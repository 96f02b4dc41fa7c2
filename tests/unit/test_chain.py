"""Does the program of two chained products compute them, and does it cost what its loop nest says?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from tileflow_chain import (
    Chain,
    ChainRules,
    ChainStep,
    ChainTiling,
    Traffic,
    chain_program,
    traffic,
)

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.dram import port_names
from tilewright.hw_models.load import load_machine
from tilewright.sim.engine.program import Program
from tilewright.sim.engine.reference import run_reference
from tilewright.sim.engine.run import simulate
from tilewright.units import KIB

Array = npt.NDArray[np.float64]
MACHINE = load_machine("tileflow-rtl")

# Whole rounds only; a short last round; a short last block, slab and tile; fewer blocks than contexts; one of each.
CASES = {
    "whole": (Chain(rows=128, keys=64, depth=48, width=48), ChainTiling(rows=16, depth=16, keys=32)),
    "short round": (Chain(rows=96, keys=48, depth=32, width=16), ChainTiling(rows=16, depth=16, keys=16)),
    "nothing divides": (Chain(rows=75, keys=50, depth=37, width=29), ChainTiling(rows=8, depth=10, keys=7)),
    "two blocks": (Chain(rows=31, keys=20, depth=9, width=5), ChainTiling(rows=16, depth=9, keys=6)),
    "one command each": (Chain(rows=7, keys=5, depth=3, width=2), ChainTiling(rows=7, depth=3, keys=5)),
}
each_case = pytest.mark.parametrize(("chain", "tiling"), CASES.values(), ids=CASES.keys())
each_rules = pytest.mark.parametrize(
    "rules",
    [ChainRules(), ChainRules(contexts=1), ChainRules(contexts=3), ChainRules(result_buffers=0, staging_blocks=0)],
    ids=["inferred", "one context", "three contexts", "no limits"],
)


class Numbers:
    """Runs the steps on arrays that stand where the machine has them: a DRAM, and per context one slot, S and O.

    A slot's content is gone when a new load starts, and named by what it is: a tile that is overwritten too early, or
    used too early, is an error, not a wrong number only.
    """

    def __init__(self, chain: Chain) -> None:
        make = np.random.default_rng(7).integers
        self.q: Array = make(-4, 5, (chain.rows, chain.depth)).astype(np.float64)
        self.k: Array = make(-4, 5, (chain.depth, chain.keys)).astype(np.float64)
        self.v: Array = make(-4, 5, (chain.keys, chain.width)).astype(np.float64)
        self.o: Array = np.full((chain.rows, chain.width), np.nan)
        self.slot: dict[int, dict[tuple[str | int, ...], Array]] = {}
        self.scores: dict[int, tuple[int, Array]] = {}
        self.passed: dict[int, int] = {}
        self.output: dict[int, tuple[int, Array]] = {}
        self.met_depth = np.zeros((chain.rows, chain.depth), dtype=int)
        self.met_keys = np.zeros((chain.rows, chain.keys), dtype=int)

    def start(self, step: ChainStep) -> None:
        c = step.context
        if step.label in ("load Q", "load V"):
            self.slot[c] = {}
        elif step.label == "Q K" and step.at == 0:
            self.scores[c] = (step.row, np.zeros((step.n_rows, self.k.shape[1])))
        elif step.label == "S V" and step.at == 0:
            self.output[c] = (step.row, np.zeros((step.n_rows, self.v.shape[1])))

    def end(self, step: ChainStep) -> None:
        c, rows, part = step.context, slice(step.row, step.row + step.n_rows), slice(step.at, step.at + step.size)
        match step.label:
            case "load Q":
                self.slot[c]["Q", step.row, step.at] = self.q[rows, part]
            case "load K":
                self.slot[c]["K", step.at] = self.k[part]
            case "load V":
                self.slot[c]["V", step.at] = self.v[part]
            case "Q K":
                row, scores = self.scores[c]
                assert row == step.row
                scores += self.slot[c]["Q", step.row, step.at] @ self.slot[c]["K", step.at]
                self.met_depth[rows, part] += 1
            case "pass":
                self.passed[c] = step.row
            case "S V":
                (row, scores), (output_row, output) = self.scores[c], self.output[c]
                assert row == output_row == self.passed[c] == step.row
                output += scores[:, part] @ self.slot[c]["V", step.at]
                self.met_keys[rows, part] += 1
            case "store O":
                row, output = self.output[c]
                assert row == step.row and np.isnan(self.o[rows]).all()
                self.o[rows] = output
            case _:
                raise AssertionError(step.label)


def in_order_of_time(program: Program) -> list[tuple[str, ChainStep]]:
    """("start" or "end", step) as they happen; within a cycle what ends comes first."""
    moments: list[tuple[int, int, int, str, ChainStep]] = []
    for event in run_reference(program).events:
        moments.append((event.end, 0, event.engine, "end", event.command.run))
        moments.append((event.start, 1, event.engine, "start", event.command.run))
    return [(what, step) for *_, what, step in sorted(moments, key=lambda moment: moment[:3])]


@each_case
@each_rules
def test_simulated_order_computes_the_chain(chain: Chain, tiling: ChainTiling, rules: ChainRules) -> None:
    numbers = Numbers(chain)
    for what, step in in_order_of_time(chain_program(chain, tiling, MACHINE, rules=rules, unroll=True)):
        getattr(numbers, what)(step)
    assert (numbers.met_depth == 1).all() and (numbers.met_keys == 1).all()
    assert np.array_equal(numbers.o, (numbers.q @ numbers.k) @ numbers.v)  # small whole numbers: no rounding


@each_case
@each_rules
def test_loops_and_skipping_change_nothing(chain: Chain, tiling: ChainTiling, rules: ChainRules) -> None:
    looped = chain_program(chain, tiling, MACHINE, rules=rules)
    unrolled = chain_program(chain, tiling, MACHINE, rules=rules, unroll=True)
    runs = [simulate(looped), simulate(looped, skip=False), simulate(unrolled)]
    reference = run_reference(looped)
    assert not reference.waiting
    assert {run.cycles for run in runs} == {reference.cycles}
    assert {run.busy_cycles for run in runs} == {reference.busy_cycles}
    assert {run.n_commands for run in runs} == {len(reference.events)}
    assert traffic(looped) == traffic(unrolled)


def test_long_chains_have_short_programs() -> None:
    tiling = ChainTiling(rows=16, depth=16, keys=64)
    short = chain_program(Chain(rows=128, keys=256, depth=64, width=64), tiling, MACHINE)
    long = chain_program(Chain(rows=2**20, keys=256, depth=64, width=64), tiling, MACHINE)
    assert long.n_commands == short.n_commands
    assert simulate(long).n_jumps > 0


@pytest.mark.parametrize(
    ("extents", "tiles", "cycles"),
    [
        ((256, 256, 64, 64), (64, 64, 256), 42_260),
        ((512, 512, 64, 64), (16, 16, 16), 535_262),
        ((512, 256, 48, 48), (64, 16, 16), 68_936),
    ],
)
def test_cycles_of_an_independent_recurrence(
    extents: tuple[int, int, int, int], tiles: tuple[int, int, int], cycles: int
) -> None:
    """The figures were made by a timing recurrence written apart from this program, without queues or semaphores."""
    chain = Chain(rows=extents[0], keys=extents[1], depth=extents[2], width=extents[3])
    tiling = ChainTiling(rows=tiles[0], depth=tiles[1], keys=tiles[2])
    assert simulate(chain_program(chain, tiling, MACHINE)).cycles == cycles


def test_one_command_of_each_kind_by_hand() -> None:
    """A lone block: load Q and K, multiply, pass, load V, multiply, store, one after the other."""
    chain = Chain(rows=16, keys=64, depth=32, width=48)
    program = chain_program(chain, ChainTiling(rows=16, depth=32, keys=64), MACHINE)
    q, k, v, o = 16 * 32 // 4, 32 * 64 // 4, 64 * 48 // 4, 16 * 48 // 4
    first, gone_over, second = 2 * 64 + 46, 16 * 64 // 16, 4 * 48 + 46
    assert simulate(program).cycles == q + k + first + gone_over + v + second + o
    words = Traffic(
        mem_to_buf=16 * 32 + 32 * 64 + 64 * 48,
        buf_to_mem=16 * 48,
        buf_to_reg=(16 * 32 + 32 * 64 + 2 * 16 * 64) + 16 * 64 + (16 * 64 + 64 * 48 + 4 * 16 * 48),
        reg_to_buf=2 * 16 * 64 + 16 * 64 + 4 * 16 * 48,
    )
    assert traffic(program) == Traffic(*(16 * n for n in words))


def test_ports_of_the_dram() -> None:
    shared = MACHINE.with_(**{"dram.ports": "shared"})
    assert port_names(MACHINE) == ("dram read", "dram write")
    assert port_names(shared) == ("dram",)
    chain, tiling = CASES["whole"]
    apart, together = chain_program(chain, tiling, MACHINE), chain_program(chain, tiling, shared)
    assert len(apart.channels) == 2 and len(together.channels) == 1
    assert simulate(together).cycles > simulate(apart).cycles
    assert sum(simulate(together).channel_bytes) == sum(simulate(apart).channel_bytes)
    with pytest.raises(InputError, match=r"dram\.ports: unknown value; given \"double\"; allowed shared, separate"):
        MACHINE.with_(**{"dram.ports": "double"})


def test_capacity_is_tight() -> None:
    chain, tiling = CASES["whole"]
    need = sum(chain_program(chain, tiling, MACHINE).buffer_bytes.values())
    assert need == 4 * 2 * (16 * 64 + 16 * 48 + max(16 * 16 + 16 * 64, 32 * 48))
    chain_program(chain, tiling, MACHINE.with_(**{"buffers.cache.capacity_kib": need / KIB}))
    with pytest.raises(MappingError, match=rf"needs {need:,} bytes of buffer cache, which has {need - 1:,} bytes"):
        chain_program(chain, tiling, MACHINE.with_(**{"buffers.cache.capacity_kib": (need - 1) / KIB}))


@pytest.mark.parametrize("tile", ["rows", "depth", "keys"])
@pytest.mark.parametrize("size", [0, 129])
def test_tiles_out_of_range(tile: str, size: int) -> None:
    tiles = {"rows": 16, "depth": 16, "keys": 16} | {tile: size}
    with pytest.raises(InputError, match=f'tile "{tile}": given {size}, allowed 1 to 128'):
        chain_program(Chain(rows=128, keys=128, depth=128, width=16), ChainTiling(**tiles), MACHINE)


def test_rules_out_of_range() -> None:
    with pytest.raises(InputError, match="1 context or more"):
        ChainRules(contexts=0)
