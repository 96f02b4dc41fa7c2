"""The server's sums against a plain one that keeps every request's blocks and counts every token."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.sim.serving.costs import Batch, StepCost
from tilewright.sim.serving.engine import EngineRules
from tilewright.sim.serving.requests import Request
from tilewright.sim.serving.server import serve


class _Costs:
    """Different for every kind of work, so that a step that is put together in another way takes another time."""

    told = "made up"

    def step(self, batch: Batch, *, beside: int = 0) -> StepCost:
        work = 7 * batch.decodes + batch.context + 11 * batch.new + batch.looks + 13 * batch.sampled + 5 * batch.prompts
        return StepCost(seconds=1.0 + work)


@dataclass
class _Plain:
    """One request: tokens cached, tokens to read before it makes any, tokens made."""

    asked: Request
    cached: int = 0
    to_read: int = 0
    made: int = 0
    first: float = -1.0
    last: float = -1.0
    blocks: int = 0
    reads: bool = True


class _PlainServer:
    """One token and block after the other."""

    def __init__(self, requests: list[Request], rules: EngineRules) -> None:
        self.rules = rules
        self.every = [_Plain(one) for one in requests]
        self.waiting: list[_Plain] = []
        self.running: list[_Plain] = []
        self.lost = 0

    def run(self) -> list[tuple[float, float]]:
        """First and last token of each request."""
        now, come = 0.0, 0
        while any(one.last < 0 for one in self.every):
            while come < len(self.every) and self.every[come].asked.arrival_s <= now:
                self.waiting.append(self.every[come])
                come += 1
            now = self.step(now) if self.waiting or self.running else self.every[come].asked.arrival_s
        return [(one.first, one.last) for one in self.every]

    @property
    def free(self) -> int:
        return self.rules.blocks - sum(one.blocks for one in self.running)

    def step(self, now: float) -> float:
        """One step; when it is over."""
        makes, lost = self.making()
        batch = Batch(decodes=len(makes), context=sum(one.cached for one in makes), sampled=len(makes))
        chunks = self.reading(self.rules.tokens - len(makes), lost)
        for one, n in chunks:
            batch.new += n
            batch.looks += sum(one.cached + at + 1 for at in range(n))
            batch.prompts += 1
            batch.sampled += one.cached + n == one.to_read
        now += _Costs().step(batch).seconds
        for one in makes:
            one.cached += 1
            one.made += 1
        for one, n in chunks:
            one.cached += n
            if one.cached == one.to_read:
                one.reads = False
                one.made += 1
                one.first = one.first if one.first >= 0 else now
        for one in [one for one in self.running if one.made == one.asked.answer]:
            one.last = now
            self.running.remove(one)
        return now

    def making(self) -> tuple[list[_Plain], bool]:
        """Those that make a token, each with a block for it; whether one lost its own for that."""
        before = self.lost
        while True:
            makes = [one for one in self.running if not one.reads]
            need = [one for one in makes if one.cached == one.blocks * self.rules.block]
            if len(need) <= self.free:
                break
            victim = self.running.pop()
            victim.blocks, victim.cached, victim.reads = 0, 0, True
            self.waiting.insert(0, victim)
            self.lost += 1
        for one in need:
            one.blocks += 1
        return makes, self.lost > before

    def reading(self, budget: int, lost: bool) -> list[tuple[_Plain, int]]:
        """Those that read, and how many tokens."""
        chunks: list[tuple[_Plain, int]] = []
        for one in self.running:
            if one.reads and budget > 0:
                chunks.append((one, min(budget, one.to_read - one.cached)))
                budget -= chunks[-1][1]
        while not lost and budget > 0 and self.waiting and len(self.running) < self.rules.running:
            one = self.waiting[0]
            tokens = one.asked.prompt + one.made
            blocks = -(-tokens // self.rules.block)
            if blocks > self.free:
                break
            self.waiting.pop(0)
            one.blocks, one.to_read, one.cached = blocks, tokens, 0
            self.running.append(one)
            chunks.append((one, min(budget, tokens)))
            budget -= chunks[-1][1]
        return chunks


@st.composite
def _cases(draw: st.DrawFn) -> tuple[list[Request], EngineRules]:
    block = draw(st.integers(1, 5))
    running = draw(st.integers(1, 5))
    shapes = draw(
        st.lists(st.tuples(st.integers(0, 400), st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=8)
    )
    largest = max(-(-(prompt + answer - 1) // block) for _, prompt, answer in shapes)
    requests = [
        Request(number=n, arrival_s=float(arrival), prompt=prompt, answer=answer)
        for n, (arrival, prompt, answer) in enumerate(sorted(shapes))
    ]
    rules = EngineRules(
        tokens=draw(st.integers(running, 30)),
        running=running,
        block=block,
        blocks=largest + draw(st.integers(0, 8)),
        layers=4,
    )
    return requests, rules


@settings(max_examples=60, deadline=None)
@given(_cases())
def test_sums_say_what_single_tokens_say(case: tuple[list[Request], EngineRules]) -> None:
    requests, rules = case
    plain = _PlainServer(requests, rules)
    wanted = plain.run()
    served = serve(requests, rules, _Costs())
    assert [(one.first_s, one.last_s) for one in requests] == wanted
    assert served.preemptions == plain.lost
    assert served.most_blocks <= rules.blocks
