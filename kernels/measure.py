"""Measuring: each configuration timed on a device, written to the file at once, within a budget of time.

On a GPU calls are recorded as a graph over rotating inputs and replayed, so that neither Python nor the launches of the
driver are timed; what cannot be recorded is timed with events around back-to-back calls. Clocks and power are read,
never set.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tilewright.errors import InputError
from tilewright.kernels.board import board
from tilewright.kernels.calls import Call, Setting
from tilewright.kernels.compiled import Resources, resources_of
from tilewright.kernels.measurement import Measurement, MeasurementDevice, MeasurementFile, load_measurements
from tilewright.kernels.suite import Configuration

__all__ = ["MeasureProgress", "measure", "open_file"]

_METHOD = (
    "median of samples; a sample is one replay of a CUDA graph of back-to-back calls over rotating inputs, "
    "by events, after warm-up; per call"
)
_INSTALL = "measuring needs PyTorch and Triton; install them with: pip install 'tilewright[gpu]'"
_N_SAMPLES = 20
_SAMPLE_S = 2e-3  # long against the resolution of events (about 1 us)
_MOST_CALLS = 200
_MOST_SETS = 8
_WARM_UP_S = 0.03
_ENERGY_S = 2.0  # long against the 0.1 s in which the counter moves, and the board is hot and held back by its end
_IDLE_S = 1.5
_NETWORK_SAMPLES = 15

DeviceKind = Literal["cuda", "interpreter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureProgress:
    """How far it is: configurations done (those in the file too) of all, those given up, and which is next.

    ``reason`` says why the last one was given up.
    """

    done: int
    total: int
    given_up: int
    what: str
    reason: str = ""


def open_file(path: str | Path, device: DeviceKind) -> MeasurementFile:
    """The file to go on with: as it is, or new. Raises InputError for a file of another device."""
    if str(path) in ("", "-") or (Path(path).exists() and not Path(path).is_file()):
        raise InputError(f"{path or 'output'}: not a file; allowed the name of a file, which keeps the results")
    here = _device(device)
    if not Path(path).exists():
        here = replace(here, idle_w=_idle_w() if device == "cuda" else None)
        fresh = MeasurementFile(device=here, taken=time.strftime("%Y-%m-%d"), method=_METHOD)
        fresh.save(path)  # a path that cannot be written is found out now
        return fresh
    there = load_measurements(path)
    if replace(there.device, idle_w=None) != here:
        raise InputError(
            f"{path}: holds measurements of {_told(there.device)}; this is {_told(here)}; give another file"
        )
    return there


def measure(
    configurations: Sequence[Configuration],
    path: str | Path,
    device: DeviceKind = "cuda",
    *,
    budget_s: float | None = None,
    progress: Callable[[MeasureProgress], None] | None = None,
) -> MeasurementFile:
    """Measure what ``path`` does not hold yet, one after another, until all is done or ``budget_s`` seconds are over.

    Each result is on the disk before the next begins. What a device cannot run (too little on-chip memory for a tile, a
    format that it lacks) is given up and not written. Raises InputError without a device or without its libraries.
    """
    begun = time.monotonic()
    file = open_file(path, device)
    known = {each.key for each in file.measurements}
    given_up, reason = 0, ""
    for at, configuration in enumerate(configurations):
        if configuration.key in known:
            continue
        if budget_s is not None and time.monotonic() - begun > budget_s:
            break
        if progress is not None:
            what = f"{configuration.operator}, {configuration.kernel}"
            progress(MeasureProgress(done=at, total=len(configurations), given_up=given_up, what=what, reason=reason))
        measured = _try_one(configuration, device)
        if isinstance(measured, str):
            given_up, reason = given_up + 1, f"{configuration.operator}, {configuration.kernel}: {measured}"
            continue
        file = file.with_measurement(measured)
        file.save(path)
    if progress is not None:
        there = {each.key for each in file.measurements}
        done = given_up + sum(each.key in there for each in configurations)
        progress(
            MeasureProgress(done=done, total=len(configurations), given_up=given_up, what="finished", reason=reason)
        )
    return file


def _try_one(configuration: Configuration, device: DeviceKind) -> Measurement | str:
    """The measurement, or why there is none."""
    try:
        return _one(configuration, device)
    except (InputError, KeyboardInterrupt):
        raise
    except Exception as fault:  # Triton and CUDA have many ways to say that a schedule does not fit
        _recover(device)
        return f"{type(fault).__name__}: {' '.join(str(fault).split())[:200]}"


def _one(configuration: Configuration, device: DeviceKind) -> Measurement:
    where = "cuda" if device == "cuda" else "cpu"
    setting = Setting(where, configuration.shape, configuration.formats, configuration.tiles, configuration.network)
    first = configuration.build(setting)
    resources = resources_of(first.run) if "triton" in configuration.kernel else first.run()
    counted = _Counted()
    if device == "cuda":
        samples, n_calls, replay = _time_on_gpu(configuration, setting, first)
        clock, power = board().clock_mhz(), board().watts()
        if configuration.energy:
            counted = _count_energy(replay, n_calls, min(samples))
            clock, power = counted.clock_mhz, counted.watts
    else:
        samples, n_calls = _time_here(first), 1
        clock, power = None, None
    samples.sort()
    return Measurement(
        operator=configuration.operator,  # type: ignore[arg-type]
        kernel=configuration.kernel,
        shape=configuration.shape,
        formats=configuration.formats,
        tiles=configuration.tiles,
        median_s=samples[len(samples) // 2],
        low_s=samples[len(samples) // 10],
        high_s=samples[-1 - len(samples) // 10],
        n_samples=len(samples),
        n_per_sample=n_calls,
        sm_clock_mhz=clock,
        power_w=power,
        network=configuration.network,
        energy=configuration.energy,
        joules=counted.joules,
        energy_s=counted.seconds,
        registers=resources.registers if isinstance(resources, Resources) else None,
        spills=resources.spills if isinstance(resources, Resources) else None,
        shared_bytes=resources.shared_bytes if isinstance(resources, Resources) else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """Joules of one call and mean power over a run of ``seconds``, and the clock in its middle."""

    joules: float | None = None
    watts: float | None = None
    seconds: float | None = None
    clock_mhz: float | None = None


def _count_energy(replay: Callable[[], Any], n_calls: int, call_s: float) -> _Counted:
    """Replays back to back for about two seconds, between two readings of the board's counter."""
    import torch

    n_replays = max(1, round(_ENERGY_S / (n_calls * call_s)))
    torch.cuda.synchronize()
    before, begun = board().joules(), time.perf_counter()
    for _ in range(n_replays):
        replay()
    time.sleep(max(0.0, _ENERGY_S / 2 - (time.perf_counter() - begun)))
    clock = board().clock_mhz()
    torch.cuda.synchronize()
    seconds, after = time.perf_counter() - begun, board().joules()
    if before is None or after is None:
        return _Counted(clock_mhz=clock)
    joules = after - before
    return _Counted(joules=joules / (n_replays * n_calls), watts=joules / seconds, seconds=seconds, clock_mhz=clock)


def _time_on_gpu(
    configuration: Configuration, setting: Setting, first: Call
) -> tuple[list[float], int, Callable[[], Any]]:
    """Seconds per call, one entry a sample, the calls in a sample, and what does one sample's calls."""
    import torch

    l2_bytes = torch.cuda.get_device_properties(0).L2_cache_size
    # Enough sets of inputs that none is still in the cache when its turn comes again.
    n_sets = max(1, min(_MOST_SETS, -(-2 * l2_bytes // max(1, first.n_bytes))))
    if configuration.operator == "network":
        n_sets = 1  # a network's own weights and maps pass through the L2
    calls = [first, *(configuration.build(setting) for _ in range(n_sets - 1))]
    for call in calls:
        call.run()
    torch.cuda.synchronize()
    once = _event_seconds(lambda: [call.run() for call in calls]) / len(calls)
    n_calls = max(len(calls), min(_MOST_CALLS, round(_SAMPLE_S / max(once, 1e-6))))
    replay = _recorded(calls, n_calls)
    warm_until = time.monotonic() + _WARM_UP_S
    while time.monotonic() < warm_until:
        replay()
        torch.cuda.synchronize()
    n_samples = _NETWORK_SAMPLES if configuration.operator == "network" else _N_SAMPLES
    return [_event_seconds(replay) / n_calls for _ in range(n_samples)], n_calls, replay


def _recorded(calls: Sequence[Call], n_calls: int) -> Callable[[], Any]:
    """A replay of ``n_calls`` calls, the inputs in turn; plain calls where they cannot be recorded."""
    import torch

    def plain() -> None:
        for at in range(n_calls):
            calls[at % len(calls)].run()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            plain()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            plain()
    except RuntimeError:
        torch.cuda.synchronize()
        return plain
    replay: Callable[[], Any] = graph.replay
    return replay


def _event_seconds(work: Callable[[], Any]) -> float:
    import torch

    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e-3


def _time_here(call: Call) -> list[float]:
    begun = time.perf_counter()
    call.run()
    return [time.perf_counter() - begun]


def _recover(device: DeviceKind) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def _device(kind: DeviceKind) -> MeasurementDevice:
    try:
        import torch
        import triton
    except ImportError:
        raise InputError(_INSTALL) from None
    torch_version, triton_version = str(torch.__version__), str(triton.__version__)
    if kind == "interpreter":
        if os.environ.get("TRITON_INTERPRET") != "1":
            raise InputError("--device interpreter: needs TRITON_INTERPRET=1 in the environment")
        return MeasurementDevice(
            name="Triton's interpreter", kind="interpreter", torch=torch_version, triton=triton_version
        )
    if not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch finds no GPU here; allowed on a machine with one (or: interpreter)")
    about = torch.cuda.get_device_properties(0)
    driver, limit = _query("driver_version"), _query("power.limit")
    return MeasurementDevice(
        name=about.name,
        kind="gpu",
        driver=driver,
        cuda=str(torch.version.cuda),
        n_sm=about.multi_processor_count,
        memory_bytes=about.total_memory,
        l2_bytes=about.L2_cache_size,
        power_limit_w=_number(limit),
        torch=torch_version,
        triton=triton_version,
    )


def _idle_w() -> float | None:
    """What the board draws while nothing runs, by its energy counter."""
    before, begun = board().joules(), time.perf_counter()
    if before is None:
        return None
    time.sleep(_IDLE_S)
    after = board().joules()
    return None if after is None else round((after - before) / (time.perf_counter() - begun), 1)


def _query(what: str) -> str:
    """What nvidia-smi says of the first GPU; empty where it is not there."""
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _told(device: MeasurementDevice) -> str:
    return f"{device.name} (driver {device.driver or '-'}, torch {device.torch}, triton {device.triton})"
