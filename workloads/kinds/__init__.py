"""Kinds of operators, one file each: what an operator of that kind must say, how much work it is, how it is written."""

from __future__ import annotations

from tilewright.workloads.kinds.kind import KINDS, OperatorKind, always, need_elements, register_kind
from tilewright.workloads.kinds.text import OperatorText, TextKeys, add_result

__all__ = [
    "KINDS",
    "OperatorKind",
    "OperatorText",
    "TextKeys",
    "add_result",
    "always",
    "need_elements",
    "register_kind",
]
