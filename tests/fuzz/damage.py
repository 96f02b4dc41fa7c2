"""How files are damaged, and what may come of it: a value, or one sentence, soon.

Every target is ``run(n, seed)``: it makes ``n`` inputs out of small whole ones, hands each to the product and raises
AssertionError for those that end in a traceback or take longer than :data:`MOST_SECONDS`. The same seed makes the same
inputs; what failed is kept in the folder TILEWRIGHT_FUZZ_KEEP, or the temporary one.
"""

from __future__ import annotations

import copy
import os
import random
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tilewright.errors import TilewrightError
from tilewright.sim.engine import run as engine

__all__ = ["MOST_SECONDS", "NASTY_TEXT", "Judge", "damaged_bytes", "damaged_data", "damaged_text", "nasty"]

#: Processor time of an input; it may wait longer where others use the processor, but not for ever.
MOST_SECONDS = 10.0
_MOST_WAITING_S = 120.0
_MOST_FAULTS = 20

NASTY_NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 7, 255, 1023, 2**20, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30, 10**309,
    0.0, -0.0, 0.5, 1e-9, 1e-300, 5e-324, 1e9, 1e16, 1e30, 1e300, -1e300, 1.0000000001, 3.3333333333, 0.1,
    float("inf"), float("-inf"), float("nan"),
)  # fmt: skip
NASTY_TEXT: tuple[str, ...] = (
    "", " ", "x", "none", "fp16", "int8", "int4", "fp64", "null", "true", "1e400", "-1", "nan", "inf", "0x10", "1_000",
    "١٢", "a" * 5000, "9" * 5000, "\x1b[31m", "\u202e", "\n", "\0", "\ud800", "../../etc/passwd", "/dev/zero", "'\"",
    "</script><script>", "{}", "[]", "*a", "&a", "!!python/object:os.system", "=1+1", "%s%n", "edge-16x16", "🚀" * 40,
)  # fmt: skip


class Judge:
    """Counts what became of the inputs of one run, and keeps those that failed."""

    def __init__(self, what: str, seed: int) -> None:
        engine.warm_up()  # compiling it is not the input's doing
        self.what = what
        self.seed = seed
        self.n_taken = self.n_refused = 0
        self.slowest_s = 0.0
        self.faults: dict[str, str] = {}

    def of(self, at: int, data: bytes, call: Callable[[], object]) -> None:
        """Judge input ``at``, which is ``data`` and is used by ``call``."""
        began = time.process_time()
        try:
            with _alarm():
                call()
            self.n_taken += 1
        except TilewrightError as error:
            self.n_refused += 1
            said = str(error)
            if not said.replace("\n", "").isprintable() or len(said) > 20_000:
                self._keep(at, data, "a message that does not print, or is too long", said[:2000])
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}"
            self._keep(at, data, kind, "".join(traceback.format_exception(error))[-3000:])
        self.slowest_s = max(self.slowest_s, time.process_time() - began)

    def end(self) -> None:
        """Raise AssertionError when anything failed."""
        print(f"{self.what}: {self.n_taken} taken, {self.n_refused} refused, slowest {self.slowest_s:.2f} s")
        assert not self.faults, f"{self.what}, seed {self.seed}: " + "\n\n".join(
            f"{kind}\n{text}" for kind, text in self.faults.items()
        )

    def _keep(self, at: int, data: bytes, kind: str, text: str) -> None:
        if kind in self.faults or len(self.faults) >= _MOST_FAULTS:
            return
        folder = Path(os.environ.get("TILEWRIGHT_FUZZ_KEEP") or tempfile.gettempdir())
        kept = folder / f"tilewright-fuzz-{self.what}-{self.seed}-{at}"
        kept.write_bytes(data)
        self.faults[kind] = f"input {at}, kept as {kept}\n{text}"


class _TooLongError(BaseException):
    """Not an Exception, so that nothing takes it for a fault of its input."""


class _alarm:  # noqa: N801 (used as a statement)
    """Raise when the block takes longer than it may."""

    def __enter__(self) -> None:
        def ring(number: int, frame: FrameType | None) -> NoReturn:
            raise _TooLongError

        self.before = [(number, signal.signal(number, ring)) for number in (signal.SIGPROF, signal.SIGALRM)]
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, _MOST_WAITING_S)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self.before:
            signal.signal(number, handler)


def nasty(chance: random.Random) -> Any:
    """A value that nobody expects."""
    return chance.choice((*NASTY_NUMBERS, *NASTY_TEXT, None, True, False, [], {}, [1], {"a": 1}))


def damaged_bytes(chance: random.Random, data: bytes) -> bytes:
    """``data`` with bytes changed, taken out, doubled, or cut off."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        if not changed:
            break
        at = chance.randrange(len(changed))
        match chance.randrange(6):
            case 0:
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at] = chance.randrange(256)
            case 2:
                del changed[at : at + chance.randrange(1, 20)]
            case 3:
                changed[at:at] = changed[at : at + chance.randrange(1, 60)]
            case 4:
                changed[at:at] = chance.choice(
                    (b"\xff\xfe", b"\x00", b"\x1b[2J", b"\xe2\x80\xae", b"{", b"]", b'"', b":")
                )
            case _:
                if chance.random() < 0.2:
                    del changed[at:]
    return bytes(changed)


def damaged_text(chance: random.Random, text: str) -> str:
    """``text`` with some of its words and lines replaced, moved or doubled."""
    lines = text.splitlines()
    for _ in range(chance.choice((1, 1, 2, 3))):
        if not lines:
            break
        at = chance.randrange(len(lines))
        match chance.randrange(5):
            case 0:
                parts = lines[at].split(" ")
                value = chance.choice((*NASTY_NUMBERS, *NASTY_TEXT))
                parts[chance.randrange(len(parts))] = str(value)
                lines[at] = " ".join(parts)
            case 1:
                del lines[at]
            case 2:
                lines.insert(chance.randrange(len(lines) + 1), lines[at])
            case 3:
                lines[at] = " " * chance.randrange(6) + lines[at].lstrip()
            case _:
                key, colon, _rest = lines[at].partition(":")
                lines[at] = f"{key}{colon} {chance.choice((*NASTY_NUMBERS, *NASTY_TEXT))}"
    return "\n".join(lines) + "\n"


def damaged_data(chance: random.Random, data: Any) -> Any:
    """Plain data with some values replaced, left out, added, or exchanged for others of it."""
    changed = copy.deepcopy(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        places = list(_places(changed))
        if not places:
            break
        holder, key = chance.choice(places)
        match chance.randrange(6):
            case 0 | 1:
                holder[key] = nasty(chance)
            case 2 if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
                holder[key] = chance.choice(NASTY_NUMBERS)
            case 3:
                other, of = chance.choice(places)
                holder[key] = copy.deepcopy(other[of])
            case 4:
                if isinstance(holder, dict):
                    del holder[key]
                else:
                    holder.insert(key, copy.deepcopy(holder[key]))
            case _:
                if isinstance(holder, dict):
                    holder[chance.choice(NASTY_TEXT)] = nasty(chance)
                else:
                    del holder[key]
    return changed


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """(list or mapping, index or key) of every value."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in list(items):
        yield data, key
        yield from _places(value)
