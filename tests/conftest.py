"""How the tests run: repeatable in the quick suite, long and random when fuzzing.

Property tests should not fix ``max_examples`` themselves where ``make fuzz N=...`` is to lengthen them.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_SLOW_IS_FINE = [HealthCheck.too_slow]
settings.register_profile(
    "quick", max_examples=100, deadline=None, derandomize=True, suppress_health_check=_SLOW_IS_FINE
)
settings.register_profile(
    "fuzz",
    max_examples=int(os.environ.get("TILEWRIGHT_FUZZ_EXAMPLES", "100")),
    deadline=None,
    derandomize=False,
    suppress_health_check=_SLOW_IS_FINE,
)
settings.load_profile("fuzz" if "TILEWRIGHT_FUZZ_EXAMPLES" in os.environ else "quick")
