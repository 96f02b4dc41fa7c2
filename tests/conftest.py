"""How property tests run: the same examples every time in the quick suite, random and many with ``make fuzz N=...``.

Tests that fuzzing is to lengthen leave ``max_examples`` alone, or read it from ``TILEWRIGHT_FUZZ`` too.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_SLOW_IS_FINE = [HealthCheck.too_slow]
_N_FUZZ = os.environ.get("TILEWRIGHT_FUZZ")

settings.register_profile(
    "quick", max_examples=100, deadline=None, derandomize=True, suppress_health_check=_SLOW_IS_FINE
)
settings.register_profile(
    "fuzz", max_examples=int(_N_FUZZ or 100), deadline=None, print_blob=True, suppress_health_check=_SLOW_IS_FINE
)
settings.load_profile("fuzz" if _N_FUZZ else "quick")

# Tests run beside each other already; what helper processes do has tests of its own.
os.environ.setdefault("TILEWRIGHT_JOBS", "1")

# Without a GPU Triton's kernels run in its interpreter. Triton looks when it is imported, which other libraries do too.
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Where several workers are to run, the engine is compiled before they start: once, not in each of them."""
    if not hasattr(session.config, "workerinput") and session.config.getoption("numprocesses", None):
        from tilewright.sim.engine.run import is_compiled, warm_up

        if not is_compiled():
            warm_up()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where tests of optional libraries are left out, files that have no others are not read: that loads PyTorch."""
    if collection_path.suffix != ".py" or "not extras" not in config.option.markexpr:
        return None
    of_extras = r"^pytestmark = .*\bpytest\.mark\.extras\b"
    return True if re.search(of_extras, collection_path.read_text(encoding="utf-8"), re.MULTILINE) else None
