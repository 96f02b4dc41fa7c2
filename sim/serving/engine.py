"""One engine: continuous batching with a budget of tokens, paged blocks, preemption by recomputation.

A step holds every request that makes tokens (one token each) and, of what is left of the budget, prompts: those begun
first, then those that wait, in the order of their arrival. A request takes the blocks of its whole prompt when it is
let in. Where blocks for the next tokens are missing, the request that was let in last gives up its own and waits again,
before all others; it then reads its prompt and what it had made anew.

What a step costs here does not depend on how many requests run: sums are kept of their number and their caches, and by
remainder of the step, who needs a block, and by step, who ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from tilewright.sim.serving.blocks import BlockPool
from tilewright.sim.serving.costs import Batch
from tilewright.sim.serving.requests import Request

__all__ = ["Engine", "EngineRules", "most_blocks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRules:
    """``tokens`` and ``running`` at most in a step; ``prefill``: chunked, whole or layered, groups of ``group_tokens``;
    ``layers`` of the model; tokens of a ``block``, ``blocks`` of them; ``keeps``: see :class:`BlockPool`.
    """

    tokens: int
    running: int
    block: int
    blocks: int
    layers: int
    prefill: str = "chunked"
    group_tokens: int = 512
    keeps: bool = False


@dataclass(slots=True)
class Engine:
    """Its ``waiting`` and ``running`` requests. :meth:`plan` makes the next step, :meth:`done` ends it."""

    rules: EngineRules
    waiting: deque[Request] = field(default_factory=deque)
    running: dict[int, Request] = field(default_factory=dict)
    preemptions: int = 0
    reread: int = 0
    found: int = 0
    pool: BlockPool = field(init=False)
    _reading: dict[int, Request] = field(default_factory=dict)
    _ends: dict[int, list[Request]] = field(default_factory=dict)
    _needs: list[int] = field(default_factory=list)
    _step: int = 0
    _decodes: int = 0
    _context: int = 0
    _group: list[Request] = field(default_factory=list)
    _groups: int = 0
    _at: int = 0
    _finished: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pool = BlockPool(self.rules.blocks, keeps=self.rules.keeps)
        self._needs = [0] * self.rules.block

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or runs."""
        return not self.waiting and not self.running

    def plan(self, now: float) -> Batch:
        """The next step. Raises AssertionError where a request can never run (callers have looked)."""
        lost = self._take_blocks()
        batch = Batch(decodes=self._decodes, context=self._context, sampled=self._decodes)
        if self.rules.prefill == "layered":
            self._layered(batch, now, may_begin=not lost)
            return batch
        budget = self.rules.tokens - self._decodes
        for request in self._reading.values():
            budget -= self._read(batch, request, budget)
            if budget <= 0:
                break
        if not lost:
            while budget > 0 and self._let_in(now):
                request = next(reversed(self.running.values()))
                budget -= self._read(batch, request, budget)
        return batch

    def done(self, now: float) -> list[Request]:
        """The step is over at ``now``: tokens are there; the requests that ended."""
        self._context += self._decodes
        ended = self._ends.pop(self._step, [])
        self._step += 1
        for request in ended:
            self._leave(request)
        for request in self._read_through():
            request.made += 1
            if request.first_s < 0:
                request.first_s = now
            if request.made >= request.answer:
                self._give_back(request)
                ended.append(request)
            else:
                self._begin_to_make(request)
        for request in ended:
            request.last_s = now
            request.made = request.answer
        return ended

    def _read_through(self) -> list[Request]:
        """Requests that have been read whole with this step."""
        if self.rules.prefill == "layered":
            if not self._group:
                return []
            self._at += 1
            if self._at < self._groups:
                return []
            read, self._group = self._group, []
            for request in read:
                del self._reading[request.number]
            return read
        read, self._finished = self._finished, []
        for request in read:
            del self._reading[request.number]
        return read

    def _read(self, batch: Batch, request: Request, budget: int) -> int:
        """Of ``request`` what the budget allows; the number of tokens."""
        left = request.to_read - request.read
        n = left if self.rules.prefill == "whole" else min(left, budget)
        self._note(batch, request, n)
        request.read += n
        if request.read == request.to_read:
            batch.sampled += 1
            self._finished.append(request)
        return n

    @staticmethod
    def _note(batch: Batch, request: Request, n: int) -> None:
        batch.new += n
        batch.looks += n * request.read + n * (n + 1) // 2
        batch.prompts += 1
        batch.prompt_context += request.read

    def _layered(self, batch: Batch, now: float, *, may_begin: bool) -> None:
        """The prompts that are under way through their next group of layers, or the next ones through the first."""
        if not self._group and may_begin:
            n = 0
            while n < self.rules.group_tokens and self._let_in(now):
                request = next(reversed(self.running.values()))
                n += request.to_read - request.read
                self._group.append(request)
            self._groups = min(self.rules.layers, max(1, -(-n // self.rules.group_tokens)))
            self._at = 0
        for request in self._group:
            self._note(batch, request, request.to_read - request.read)
        if self._group:
            batch.groups, batch.group = self._groups, self._at
            if self._at == self._groups - 1:
                batch.sampled += len(self._group)

    def _let_in(self, now: float) -> bool:
        """The first that waits begins to run, if there is a place and there are blocks."""
        if not self.waiting or len(self.running) >= self.rules.running:
            return False
        request = self.waiting[0]
        tokens = request.prompt + request.made
        kept = self.pool.kept(request.number)
        blocks = -(-tokens // self.rules.block)
        if blocks > self.pool.free:  # what is kept is free too
            return False
        self.waiting.popleft()
        again = self.pool.take_again(request.number)
        self.pool.take(blocks - again)
        request.to_read = tokens
        request.read = min(max(request.hit, kept * self.rules.block), tokens - 1)
        self.found += request.read
        if request.preemptions:
            self.reread += tokens - request.read
        if request.admitted_s < 0:
            request.admitted_s = now
        self.running[request.number] = request
        self._reading[request.number] = request
        return True

    def _begin_to_make(self, request: Request) -> None:
        request.since, request.behind = self._step, request.to_read
        self._decodes += 1
        self._context += request.behind
        self._needs[(request.since - request.behind) % self.rules.block] += 1
        # One token a step: the last of them is made in this one.
        last = self._step + request.answer - request.made - 1
        self._ends.setdefault(last, []).append(request)

    def _behind(self, request: Request) -> int:
        """Tokens cached of one that makes tokens."""
        return request.behind + self._step - request.since

    def _stop(self, request: Request) -> None:
        """It makes no more tokens."""
        self._decodes -= 1
        self._context -= self._behind(request)
        self._needs[(request.since - request.behind) % self.rules.block] -= 1

    def _leave(self, request: Request) -> None:
        self._stop(request)
        self.pool.give(self._blocks(request))
        del self.running[request.number]
        request.since = -1

    def _give_back(self, request: Request) -> None:
        self.pool.give(self._blocks(request))
        del self.running[request.number]

    def _blocks(self, request: Request) -> int:
        tokens = self._behind(request) if request.is_making else request.to_read
        return -(-tokens // self.rules.block)

    def _take_blocks(self) -> bool:
        """Blocks for the tokens of this step; whether a request lost its own for that."""
        lost = False
        at = self._step % self.rules.block
        while self._needs[at] > self.pool.free:
            assert len(self.running) > 1, "one request alone does not fit"
            self._preempt(next(reversed(self.running.values())))
            lost = True
        self.pool.take(self._needs[at])
        return lost

    def _preempt(self, request: Request) -> None:
        self.preemptions += 1
        request.preemptions += 1
        tokens = self._behind(request) if request.is_making else request.read
        blocks = self._blocks(request)
        if request.is_making:
            request.made += self._step - request.since
            ends = self._ends[request.since + request.answer - (request.made - (self._step - request.since)) - 1]
            ends.remove(request)
            self._stop(request)
            request.since = -1
        else:
            del self._reading[request.number]
            if request in self._group:
                self._group.remove(request)
                tokens = 0
        whole = tokens // self.rules.block
        self.pool.give(blocks - whole)
        self.pool.give(whole, owner=request.number)
        del self.running[request.number]
        self.waiting.appendleft(request)


def most_blocks(requests: Sequence[Request], block: int) -> int:
    """Blocks that the largest request needs alone, when its last token is made."""
    return max((-(-(one.prompt + one.answer - 1) // block) for one in requests), default=0)
