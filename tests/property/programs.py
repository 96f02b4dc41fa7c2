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
