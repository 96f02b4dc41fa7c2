"""Random scripts of groups that run unlike programs at once (Hypothesis strategies)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tilewright.sim.engine import joint
from tilewright.sim.engine.joint import Group, Joint, Repeat, Script, Task, Token, join
from tilewright.sim.engine.program import Channel

_spec = importlib.util.spec_from_file_location("programs", Path(__file__).with_name("programs.py"))
assert _spec is not None and _spec.loader is not None
_programs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_programs)


@st.composite
def joints(draw: st.DrawFn, *, max_trips: int = 6, max_images: int = 5) -> Joint:
    """One to three groups of random programs (or of cores on memory trees), in a row with hand-overs between them.

    All trips but a forgotten one hand over by slots and tokens; scripts have a repeat, and now and then a task before
    and behind it. The groups share the first channel, "c0" or "dram".
    """
    n_groups, n_images = draw(st.integers(1, 3)), draw(st.integers(1, max_images))
    trees = draw(st.booleans())
    program = _programs.tree_programs(max_trips=2) if trees else _programs.programs(max_trips=max_trips)
    shared = "dram" if trees else "c0"
    tokens = {"loose": Token(draw(st.integers(0, 2)))}
    for at in range(n_groups - 1):
        tokens[f"free {at}"] = Token(draw(st.integers(1, 2)), is_slot=True)
        tokens[f"there {at}"] = Token(0)
    groups = []
    for at in range(n_groups):
        waits = [f"there {at - 1}"] * (at > 0) + [f"free {at}"] * (at < n_groups - 1)
        signals = [f"free {at - 1}"] * (at > 0) + [f"there {at}"] * (at < n_groups - 1)
        body = [
            Task(
                name=f"task {n}",
                programs=tuple(draw(st.lists(program, max_size=2))),
                before_cycles=draw(st.sampled_from([0, 0, 1, 25])),
            )
            for n in range(draw(st.integers(1, 3)))
        ]
        first, last = body[0], body[-1]
        body[0] = _with(first, waits=tuple(waits), signals=first.signals)
        body[-1] = _with(body[-1], waits=body[-1].waits, signals=tuple(signals))
        if draw(st.integers(0, 5)) == 0:
            body[-1] = _with(body[-1], waits=(*body[-1].waits, "loose"), signals=(*body[-1].signals, "loose"))
        script: Script = (Repeat(name="images", count=n_images, body=tuple(body)),)
        if draw(st.integers(0, 3)) == 0:
            script = (Task(name="first", programs=first.programs), *script, Task(name="last", programs=last.programs))
        groups.append(Group(name=f"g{at}", script=script))
    channels = [Channel(shared, draw(_programs.rates()))]
    with pytest.MonkeyPatch.context() as patch:  # tokens that are left are taken one by one, or all at once
        patch.setattr(joint, "MOST_AT_ONCE", draw(st.sampled_from([0, joint.MOST_AT_ONCE])))
        return join(groups, channels, tokens)


def _with(task: Task, *, waits: tuple[str, ...], signals: tuple[str, ...]) -> Task:
    return Task(name=task.name, programs=task.programs, before_cycles=task.before_cycles, waits=waits, signals=signals)
