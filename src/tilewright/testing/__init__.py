"""The contract of built-in operator kinds, dataflows, quantised engines, fusion schemes and search methods, for those
of your own.

Each ``check_...`` raises AssertionError with the smallest case that it found, and says nothing where all is well::

    from tilewright.testing import check_dataflow
    check_dataflow(my_dataflow)

They need Hypothesis (``pip install hypothesis``); the strategies that they draw from are in the modules of this package
(``attention``, ``products``, ``networks``).
"""

from __future__ import annotations

from tilewright.testing.dataflows import check_bound, check_capacity, check_dataflow, check_forms, check_numbers
from tilewright.testing.engines import check_engine
from tilewright.testing.methods import check_search_method
from tilewright.testing.operators import check_operator_kind
from tilewright.testing.schemes import check_fusion_programs, check_fusion_scheme

__all__ = [
    "check_bound",
    "check_capacity",
    "check_dataflow",
    "check_engine",
    "check_forms",
    "check_fusion_programs",
    "check_fusion_scheme",
    "check_numbers",
    "check_operator_kind",
    "check_search_method",
]
