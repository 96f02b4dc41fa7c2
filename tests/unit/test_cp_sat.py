"""Ctrl-C and the solver: it ends a search at once, and is Python's own again behind it."""

from __future__ import annotations

import subprocess
import sys

_SOLVED_BEFORE = """
import signal
from ortools.sat.python import cp_model
from tilewright.search.cp_sat import has_answer, new_solver
model = cp_model.CpModel()
x = model.new_int_var(0, 9, "x")
model.maximize(x)
solver = new_solver()
assert has_answer(solver, model) and solver.value(x) == 9
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("raised")
"""
_WHILE_IT_SOLVES = """
import os, random, signal, threading, time
from ortools.sat.python import cp_model
from tilewright.search.cp_sat import has_answer, new_solver
model = cp_model.CpModel()
draw = random.Random(0)
n = 400
rooms = [(model.new_int_var(0, 20000, ""), draw.randint(40, 90), draw.randint(0, 90)) for _ in range(n)]
model.add_no_overlap_2d(
    [model.new_fixed_size_interval_var(begin, draw.randint(5, 30), "") for _, _, begin in rooms],
    [model.new_fixed_size_interval_var(start, size, "") for start, size, _ in rooms],
)
top = model.new_int_var(0, 20100, "")
model.add_max_equality(top, [start + size for start, size, _ in rooms])
model.minimize(top)
threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
begun = time.monotonic()
try:
    has_answer(new_solver(seconds=100), model)
except KeyboardInterrupt:
    print("raised" if time.monotonic() - begun < 50 else "late")
"""


#: Tests that a shell starts in the background inherit an ignored SIGINT.
_NOT_IGNORED = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"


def printed(program: str) -> str:
    program = _NOT_IGNORED + program
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_behind_a_search_it_is_still_caught() -> None:
    assert printed(_SOLVED_BEFORE) == "raised"


def test_it_ends_a_search() -> None:
    assert printed(_WHILE_IT_SOLVES) == "raised"
