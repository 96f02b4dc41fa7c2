"""Functions of the package called in other processes of this machine, beside this one, for answers that are the same.

A helper is a Python process of its own that imports the package and nothing of the user's script; requests and answers
are pickled through its pipes. It is deaf to Ctrl-C, which this process hears, and ends at once when its pipe is closed,
by whatever this process ends. Where helpers cannot start, do not have the code of this process, or die, everything is
done here.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, Any, Generic, NamedTuple, TypeVar

from tilewright.errors import InputError

__all__ = ["JOBS", "Call", "Helpers", "deaf_to_interrupts", "n_cores", "n_jobs", "serve"]

JOBS = "TILEWRIGHT_JOBS"  # how many processes work on one answer, where nothing else is said
PATIENCE_S = 0.4  # what is done sooner needs no helpers: they take a second to start
_AHEAD = 2  # requests in the hands of a helper, so that it need not wait for this process
_MOST_HELPERS = 15

A = TypeVar("A")
B = TypeVar("B")


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def n_jobs(given: int | None) -> int:
    """How many processes may work: as many as are ``given``, as :data:`JOBS` says, or as there are cores.

    One in a process that is itself one of several. Raises InputError where that is no whole number of at least 1.
    """
    if given is None and (said := os.environ.get(JOBS, "")):
        if not said.isascii() or not said.isdigit():
            raise InputError(f'{JOBS}: not a whole number; given "{said}"; allowed a whole number of at least 1')
        given = int(said)
    if given is None:
        given = 1 if multiprocessing.parent_process() is not None else n_cores()
    if given < 1:
        raise InputError(f"jobs: out of range; given {given}; allowed a whole number of at least 1")
    return given


class Call(NamedTuple):
    """What a function is asked: a pickled ``argument``, best by the process that answered others of its ``key``."""

    key: Hashable
    argument: Any


@dataclass(slots=True)
class _Work(Generic[A]):
    """Requests that wait, and answers; threads take the ones and leave the others. ``n_open``: not answered yet."""

    calls: Sequence[Call]
    function: Callable[[Any], object]
    stops: bool
    waiting: list[int]
    n_open: int
    answers: dict[int, A | InputError] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def answer(self, number: int, answer: A | InputError) -> None:
        """Note an answer; where a refusal ``stops`` the work, requests behind it are given up."""
        with self.changed:
            self.answers[number] = answer
            self.n_open -= 1
            if self.stops and isinstance(answer, InputError):
                left = [one for one in self.waiting if one < number]
                self.n_open -= len(self.waiting) - len(left)
                self.waiting = left
            self.changed.notify_all()

    def give_back(self, numbers: Iterable[int]) -> None:
        """Let others do requests that somebody took."""
        with self.changed:
            self.waiting += numbers
            self.changed.notify_all()


class Helpers:
    """Up to ``n_jobs`` processes, this one among them. ``begin(argument)`` of the package is called in each new one.

    They start when answers are still missing after a moment of work, and end with the ``with`` block.
    """

    def __init__(self, n_jobs: int, begin: Callable[[Any], object], argument: Any) -> None:
        self._n_helpers = min(_MOST_HELPERS, n_jobs - 1)
        self._begin = begin, argument
        self._helpers: list[_Helper] = []
        self._owners: dict[Hashable, int] = {}  # who did requests of a key before; 0 is this process
        self._worked_s = 0.0

    def __enter__(self) -> Helpers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for helper in self._helpers:
            helper.end()

    def answers(
        self,
        function: Callable[[Any], A],
        calls: Sequence[Call],
        here: Callable[[Any], B],
        *,
        stops: bool = False,
        told: Callable[[int], None] | None = None,
    ) -> dict[int, A | B | InputError]:
        """What ``function``, of a module of the package, says to each request in a helper, or ``here`` in this process,
        or their InputErrors; by the request's number. ``stops``: requests behind a refused one need no answer.
        ``told`` hears of how many are answered.
        """
        work: _Work[A | B] = _Work(calls, function, stops, list(range(len(calls))), len(calls))
        begun = time.perf_counter()
        for helper in self._helpers:
            helper.take(work, self)
        while (number := self.next_of(work, 0)) is not None:
            try:
                work.answer(number, here(calls[number].argument))
            except InputError as error:
                work.answer(number, error)
            if told is not None:
                told(len(work.answers))
            if len(work.waiting) > 1 and self._worked_s + time.perf_counter() - begun > PATIENCE_S:
                self._start(work)
        self._worked_s += time.perf_counter() - begun
        return work.answers

    def next_of(self, work: _Work[Any], who: int) -> int | None:
        """The next request for ``who``: of a key that was theirs, else of nobody's, else of another's.

        This process waits until all is answered; None where nothing is left.
        """
        with work.changed:
            while not work.waiting:
                if who or not work.n_open:
                    return None
                work.changed.wait(0.5)
            best = min(work.waiting, key=lambda number: self._rank(work.calls[number].key, who))
            work.waiting.remove(best)
            self._owners[work.calls[best].key] = who
            return best

    def _rank(self, key: Hashable, who: int) -> int:
        owner = self._owners.get(key)
        return 0 if owner == who else 1 if owner is None else 2

    def _start(self, work: _Work[Any]) -> None:
        if self._helpers or not self._n_helpers:
            return
        if not _can_start():
            self._n_helpers = 0
            return
        own = _fingerprint(None)  # told here, before there are threads
        for number in range(self._n_helpers):
            helper = _Helper(number + 1, own)
            if not helper.start(self._begin):
                break
            self._helpers.append(helper)
            helper.take(work, self)
        self._n_helpers = len(self._helpers)


class _Helper:
    """One process, and the thread that hands requests to it."""

    def __init__(self, number: int, fingerprint: object) -> None:
        self.number, self._fingerprint = number, fingerprint
        self._process: subprocess.Popen[bytes] | None = None
        self._works: queue.SimpleQueue[tuple[_Work[Any], Helpers] | None] = queue.SimpleQueue()

    def start(self, begin: tuple[Callable[[Any], object], Any]) -> bool:
        """Start it; whether that went well. What it must know is sent to it while it starts."""
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve()"
        try:
            with deaf_to_interrupts():  # which it inherits
                self._process = subprocess.Popen(
                    [sys.executable, "-c", code],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, JOBS: "1"},
                )
        except OSError:
            return False
        threading.Thread(target=self._feed, args=(begin,), daemon=True).start()
        return True

    def take(self, work: _Work[Any], helpers: Helpers) -> None:
        """Let it take part in ``work``."""
        self._works.put((work, helpers))

    def end(self) -> None:
        """End it, whatever it does."""
        self._works.put(None)
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _feed(self, begin: tuple[Callable[[Any], object], Any]) -> None:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        in_hand: deque[int] = deque()
        work: _Work[Any] | None = None
        try:
            with process.stdin, process.stdout:
                _send(process.stdin, (_fingerprint, None))
                _send(process.stdin, begin)
                if pickle.load(process.stdout) != (True, self._fingerprint) or not pickle.load(process.stdout)[0]:
                    return
                while (taken := self._works.get()) is not None:
                    work, helpers = taken
                    self._do(work, helpers, process.stdin, process.stdout, in_hand)
        except (OSError, EOFError, ValueError, pickle.PickleError):
            pass
        finally:
            if work is not None:  # it has died: others must do what it had
                work.give_back(in_hand)

    def _do(
        self, work: _Work[Any], helpers: Helpers, requests: IO[bytes], answers: IO[bytes], in_hand: deque[int]
    ) -> None:
        while True:
            while len(in_hand) < _AHEAD and (number := helpers.next_of(work, self.number)) is not None:
                in_hand.append(number)
                _send(requests, (work.function, work.calls[number].argument))
            if not in_hand:
                return
            is_answer, answer = pickle.load(answers)
            number = in_hand.popleft()
            if is_answer:
                work.answer(number, answer)
            else:  # a fault of ours: it is raised where it can be seen
                work.give_back([number])
                return


def _send(requests: IO[bytes], message: object) -> None:
    pickle.dump(message, requests, protocol=pickle.HIGHEST_PROTOCOL)
    requests.flush()


def _can_start() -> bool:
    """Whether a helper would be of use: it must find the compiled engine."""
    from tilewright.sim.engine.run import can_be_kept, is_compiled

    return bool(sys.executable) and not getattr(sys, "frozen", False) and is_compiled() and can_be_kept()


def _fingerprint(_: object) -> tuple[str, tuple[str, ...]]:
    """What decides about answers: code, and what is registered."""
    from tilewright.search.mapping_cache import code_digest
    from tilewright.sim.lowering.mapping import DATAFLOWS

    return code_digest(), tuple(name for name, _ in DATAFLOWS.items())


def serve() -> None:
    """What a helper does: answer requests from its standard input until that is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything prints is no answer
    waiting: queue.SimpleQueue[tuple[Callable[[Any], object], Any]] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                waiting.put(pickle.load(requests))
        except (OSError, EOFError, pickle.PickleError):
            os._exit(0)  # whatever is under way, nobody waits for it

    threading.Thread(target=listen, daemon=True).start()
    while True:
        function, argument = waiting.get()
        try:
            answer: tuple[bool, Any] = (True, function(argument))
        except InputError as error:
            answer = (True, InputError(str(error)))
        except Exception as error:
            answer = (False, repr(error))
        try:
            pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
            answers.flush()
        except OSError:
            os._exit(0)


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """SIGINT is ignored, and by processes that are started meanwhile; in the main thread, which alone hears it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
