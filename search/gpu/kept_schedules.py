"""Schedules that were compiled here, kept in files: one each, named by the hash of what it was compiled from."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from tilewright.errors import InputError
from tilewright.hw_models.gpu.schedule import CompiledSchedule, ScheduleTable, load_schedules, schedules_text
from tilewright.search.mapping_cache import cache_folder, code_digest

__all__ = ["kept_schedule"]


def kept_schedule(
    name: str, compiler: str, target: str, latency_cycles: tuple[float, ...], make: Callable[[], CompiledSchedule]
) -> CompiledSchedule:
    """The schedule ``name`` as ``make`` gives it, from a file where one of this compiler and code is there.

    A damaged file counts as absent; where no file can be written, nothing is kept.
    """
    told = f"{name} {compiler} {target} {latency_cycles} {_kernels_digest()} {code_digest()}"
    place = cache_folder() / "schedules" / f"{hashlib.sha256(told.encode()).hexdigest()}.json"
    with suppress(InputError):
        (there,) = load_schedules(place).schedules
        return there
    made = make()
    table = ScheduleTable(compiler=compiler, target=target, latency_cycles=latency_cycles, schedules=(made,))
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=place.parent, delete=False, encoding="utf-8") as file:
            file.write(schedules_text(table))
        os.replace(file.name, place)
    return made


@lru_cache(maxsize=1)
def _kernels_digest() -> str:
    from tilewright.kernels import assembled, triton_kernels

    digest = hashlib.sha256()
    for package in (assembled, triton_kernels):
        for path in sorted(Path(package.__path__[0]).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
