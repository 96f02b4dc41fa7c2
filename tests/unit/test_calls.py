"""Searches that several processes share give the answers of one; none is left behind, whatever ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.executors import calls
from tilewright.search.executors.calls import Call, Helpers, n_cores, n_jobs
from tilewright.search.mapping_cache import ForgetfulCache
from tilewright.search.network import simulate_stream
from tilewright.workloads.network import load_network

EDGE = load_machine("edge-16x16")


def pid_of(number: int) -> tuple[int, int]:
    """Where a request is answered; slowly, so that others take some."""
    time.sleep(0.02)
    if number % 10 == 7:
        raise InputError(f"{number} ends in 7")
    return number, os.getpid()


def begin(folder: str) -> None:
    """What helpers are told first."""
    Path(folder, str(os.getpid())).touch()


def helpers_of(folder: str) -> list[int]:
    return [int(path.name) for path in Path(folder).iterdir()]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def until_dead(pids: list[int]) -> bool:
    for _ in range(100):
        if not any(map(is_alive, pids)):
            return True
        time.sleep(0.1)
    return False


def test_one_process_answers_in_order(tmp_path: Path) -> None:
    told: list[int] = []
    asked = [Call(number % 3, number) for number in range(9)]
    with Helpers(1, begin, str(tmp_path)) as helpers:
        found = helpers.answers(pid_of, asked, pid_of, told=told.append)
        stopped = helpers.answers(pid_of, asked, pid_of, stops=True)
    assert told == list(range(1, 10)) and not list(tmp_path.iterdir())
    assert {number: answer for number, answer in found.items() if number != 7} == {
        number: (number, os.getpid()) for number in range(9) if number != 7
    }
    assert str(found[7]) == "7 ends in 7"
    assert set(stopped) >= set(range(8)) and str(stopped[7]) == "7 ends in 7"


def test_how_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(calls.JOBS, "")
    assert n_jobs(None) == n_cores() and n_jobs(3) == 3
    monkeypatch.setenv(calls.JOBS, "5")
    assert n_jobs(None) == 5 and n_jobs(1) == 1
    monkeypatch.setenv(calls.JOBS, "two")
    with pytest.raises(InputError, match='TILEWRIGHT_JOBS: not a whole number; given "two"'):
        n_jobs(None)
    with pytest.raises(InputError, match="jobs: out of range; given 0"):
        n_jobs(0)


def take_part(folder: str) -> None:
    """Also where one is killed in the middle: the others do what it had."""
    import test_calls as here  # by a name that helpers find, too

    calls.PATIENCE_S = 0
    asked = [Call(number % 5, number) for number in range(100)]
    with Helpers(3, here.begin, folder) as helpers:
        for _ in range(100):  # they begin when they have started
            found = helpers.answers(here.pid_of, asked, here.pid_of)
            pids = helpers_of(folder)
            workers = {answer[1] for answer in found.values() if not isinstance(answer, InputError)}
            if len(pids) == 2 and len(workers) > 1:
                break
        os.kill(pids[0], signal.SIGKILL)
        again = helpers.answers(here.pid_of, asked, here.pid_of)
    for answers in (found, again):
        assert sorted(answers) == list(range(100))
        assert [number for number, answer in answers.items() if isinstance(answer, InputError)] != []
        assert all(isinstance(answer, InputError) or answer[0] == number for number, answer in answers.items())
    assert len(pids) == 2 and os.getpid() in workers and workers - {os.getpid()} <= set(pids) and len(workers) > 1
    assert until_dead(pids)


@pytest.mark.processes
def test_helpers_take_part_and_end(tmp_path: Path) -> None:
    """In a process of its own: in one in which tests have registered dataflows helpers are of no use."""
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_calls as here; "
    script += f"here.take_part({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)


@pytest.mark.processes
def test_networks_of_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planned and not: the result of one process."""
    monkeypatch.setattr(calls, "PATIENCE_S", 0)
    stream = load_network("ds-cnn:weights=int8,activations=int8")
    for plan in (False, True):
        one, three = (
            simulate_stream(stream, EDGE, cache=ForgetfulCache(), residency=plan, n_processes=n) for n in (1, 3)
        )
        assert one.residency == three.residency and one.assumptions == three.assumptions
        assert [(o.name, o.tiling, o.cycles, o.energy_pj) for o in one.operators] == [
            (o.name, o.tiling, o.cycles, o.energy_pj) for o in three.operators
        ]


SCRIPT = """
import sys, time
sys.path.insert(0, {folder!r})
import test_calls as here
from tilewright.search.executors import calls
calls.PATIENCE_S = 0
with calls.Helpers(3, here.begin, {told!r}) as helpers:
    asked = [calls.Call(n, n) for n in range(100000)]
    helpers.answers(here.pid_of, asked, here.pid_of)
"""


@pytest.mark.processes
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(tmp_path: Path, how: signal.Signals) -> None:
    """By Ctrl-C, which the whole group of processes gets, or when this process is ended or killed."""
    script = SCRIPT.format(folder=str(Path(__file__).parent), told=str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-c", script], start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    for _ in range(600):
        if len(helpers_of(str(tmp_path))) == 2:
            break
        time.sleep(0.1)
    pids = helpers_of(str(tmp_path))
    time.sleep(0.3)
    os.killpg(process.pid, how) if how == signal.SIGINT else process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert len(pids) == 2 and until_dead(pids)
    assert said.count("Traceback") == (how == signal.SIGINT)  # that of the script alone
