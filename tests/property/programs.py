"""Random programs for the engine's property tests (Hypothesis strategies)."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import strategies as st

from tilewright.sim.engine.program import Channel, Engine, Program, ProgramBuilder

RATES = [Fraction(1), Fraction(3), Fraction(64), Fraction(7, 2), Fraction(2500, 47), Fraction(1, 3)]


def rates() -> st.SearchStrategy[Fraction]:
    """Bytes a cycle: short fractions, and those of any bandwidth and clock, tiny and huge ones too."""
    figures = st.floats(1e-3, 1e4, allow_subnormal=False).map(lambda value: Fraction(str(value)))
    irregular = st.tuples(figures, figures).map(lambda pair: pair[0] / pair[1])
    return st.one_of(st.sampled_from(RATES), st.sampled_from(RATES), irregular)


@st.composite
def programs(draw: st.DrawFn, *, max_trips: int = 12) -> Program:
    """Engines with weights, shared channels, semaphores, loops to depth 3 (some triangular).

    About half of the semaphores are paired up inside a loop body (one signal, one wait, some slots), so
    that long runs and deadlocks both come often.
    """
    n_engines = draw(st.integers(1, 4))
    engines = [Engine(f"e{i}", "matrix", draw(st.sampled_from([1, 1, 1, 2, 3, 509, 4093]))) for i in range(n_engines)]
    channels = [Channel(f"c{i}", draw(rates())) for i in range(draw(st.integers(0, 2)))]
    builder = ProgramBuilder(engines, channels)
    loose = [builder.semaphore(f"s{i}", draw(st.integers(0, 3))) for i in range(draw(st.integers(0, 2)))]
    _body(draw, builder, loose, 0, -1, max_trips)
    return builder.build()


def _body(draw: st.DrawFn, builder: ProgramBuilder, loose: list[int], depth: int, outer: int, max_trips: int) -> None:
    paired: list[tuple[int, int]] = []
    for _ in range(draw(st.integers(0, 2))):
        full = builder.semaphore("full", draw(st.sampled_from([0, 0, 0, 1])))
        slots = builder.semaphore("slots", draw(st.integers(1, 3)), is_slot=True)
        paired.append((full, slots))
    for full, slots in paired:
        _command(draw, builder, [slots], [full], loose)
    for _ in range(draw(st.integers(0, 2))):
        if depth < 3 and draw(st.booleans()):
            step = draw(st.sampled_from([0, 0, 0, 1, 2, -1])) if outer >= 0 else 0
            for ident in builder.loop(draw(st.integers(1, max_trips)), step=step, over=outer if step else -1):
                _body(draw, builder, loose, depth + 1, ident, max_trips)
        else:
            _command(draw, builder, [], [], loose)
    for full, slots in paired:
        _command(draw, builder, [full], [slots], loose)


def _command(draw: st.DrawFn, builder: ProgramBuilder, waits: list[int], signals: list[int], loose: list[int]) -> None:
    if loose and draw(st.integers(0, 5)) == 0:
        waits = [*waits, draw(st.sampled_from(loose))]
    if loose and draw(st.integers(0, 3)) == 0:
        signals = [*signals, draw(st.sampled_from(loose))]
    engine = draw(st.integers(0, len(builder.engines) - 1))
    label = f"cmd{draw(st.integers(0, 99))}"
    if builder.channels and draw(st.booleans()):
        builder.transfer(
            engine,
            n_bytes=draw(st.sampled_from([1, 5, 64, 1000])),
            latency_cycles=draw(st.sampled_from([0, 0, 1, 7])),
            channel=draw(st.integers(0, len(builder.channels) - 1)),
            waits=waits,
            signals=signals,
            label=label,
        )
    else:
        builder.compute(
            engine, cycles=draw(st.sampled_from([1, 2, 3, 10, 37])), waits=waits, signals=signals, label=label
        )


class _Tree:
    """Cores on a random tree of memories, joined by links, and the commands that bring one tile to every core.

    Every level has a read port; that of a private level is a channel of each core. The mover into a level serves some
    of the cores at once. With multicast the last way is one transfer over a link, which signals every core. Engines
    have weights; now and then a token is forgotten, which makes a deadlock.
    """

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.n_cores, n_levels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        self.engines: list[Engine] = []
        self.channels = [Channel("dram", draw(rates()))]
        widths = [1 if draw(st.booleans()) else self.n_cores for _ in range(n_levels)]  # the farthest level first
        self.movers = [[self._engine(f"move {i} {core}") for core in range(n)] for i, n in enumerate(widths)]
        self.ports = [[self._channel(f"port {i} {core}") for core in range(n)] for i, n in enumerate(widths)]
        self.multicast = draw(st.booleans())
        self.link, self.sender = (self._channel("link"), self._engine("send")) if self.multicast else (-1, -1)
        self.loads = [self._engine(f"load {core}") for core in range(self.n_cores)]
        self.units = [self._engine(f"unit {core}") for core in range(self.n_cores)]
        self.stores = [self._engine(f"store {core}") for core in range(self.n_cores)]
        self.builder = ProgramBuilder(self.engines, self.channels)
        self.levels = [[self._slots(f"level {i} {core}") for core in range(n)] for i, n in enumerate(widths)]
        self.near = [self._slots(f"near {core}") for core in range(self.n_cores)]
        self.done = [self.builder.semaphore("done") for _ in range(self.n_cores)]
        self.forgets = draw(st.integers(0, 9)) == 0

    def _engine(self, name: str) -> int:
        self.engines.append(Engine(name, "load", self.draw(st.sampled_from([1, 1, 2, 3, 64]))))
        return len(self.engines) - 1

    def _channel(self, name: str) -> int:
        self.channels.append(Channel(name, self.draw(rates())))
        return len(self.channels) - 1

    def _slots(self, name: str) -> tuple[int, int]:
        """Semaphores of free slots and of tiles that are there."""
        free = self.builder.semaphore(f"{name} free", self.draw(st.integers(1, 3)), is_slot=True)
        return free, self.builder.semaphore(f"{name} full")

    def _move(self, engine: int, channel: int, waits: list[int], signals: list[int]) -> None:
        forgotten = self.forgets and self.draw(st.integers(0, 5)) == 0
        self.builder.transfer(
            engine,
            n_bytes=self.draw(st.sampled_from([1, 5, 64, 1000])),
            latency_cycles=self.draw(st.sampled_from([0, 0, 1, 7])),
            channel=channel,
            waits=waits,
            signals=signals[1:] if forgotten else signals,
            label="move",
        )

    def tile(self) -> None:
        """One tile down the tree to every core, a computation on it, and its result up again."""
        for level, movers in enumerate(self.movers):
            for core, mover in enumerate(movers):
                above = self.levels[level - 1] if level else []
                if len(above) > 1 and len(movers) > 1:
                    above = [above[core]]
                channel = self.ports[level - 1][min(core, len(self.ports[level - 1]) - 1)] if level else 0
                free, full = self.levels[level][core]
                signals = [full] * self._readers(level) + [free_above for free_above, _ in above]
                self._move(mover, channel, [free, *(full_above for _, full_above in above)], signals)
        last = self.levels[-1]
        if self.multicast:
            waits = [full for _, full in last] + [free for free, _ in self.near]
            self._move(self.sender, self.link, waits, [full for _, full in self.near] + [free for free, _ in last])
        for core in range(self.n_cores):
            self._work(core, *last[min(core, len(last) - 1)], self.ports[-1][min(core, len(self.ports[-1]) - 1)])

    def _readers(self, level: int) -> int:
        """How many take a tile from a memory of a level."""
        if len(self.movers[level]) > 1:
            return 1
        if level + 1 < len(self.movers):
            return len(self.movers[level + 1])
        return 1 if self.multicast else self.n_cores

    def _work(self, core: int, free: int, full: int, port: int) -> None:
        near_free, near_full = self.near[core]
        if not self.multicast:
            self._move(self.loads[core], port, [full, near_free], [near_full, free])
        cycles = self.draw(st.sampled_from([1, 2, 10, 37]))
        self.builder.compute(self.units[core], cycles=cycles, waits=[near_full], signals=[near_free, self.done[core]])
        self._move(self.stores[core], self.draw(st.sampled_from([0, port])), [self.done[core]], [])


@st.composite
def tree_programs(draw: st.DrawFn, *, max_trips: int = 12) -> Program:
    """Tiles through a random tree of memories (:class:`_Tree`), in two nested loops."""
    tree = _Tree(draw)
    for _ in tree.builder.loop(draw(st.integers(1, max_trips)), name="outer"):
        tree.tile()
        for _ in tree.builder.loop(draw(st.integers(1, max_trips)), name="inner"):
            tree.tile()
    return tree.builder.build()
