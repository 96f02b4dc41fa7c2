"""Points that a reader explores in a page: columns for the page's script, which filters, draws and sorts them.

A page that wants this makes an :class:`Exploration`, gives ``exploration`` and ``script`` to its template, and places
the views with the macros of ``explore.html.j2``; ``templates/explore_*.js`` hold the views. The script is named by its
hash in the page's policy, so no other script can run there, whatever stands in a name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tilewright.errors import visible
from tilewright.reports.page_script import PageScript, closed_script

__all__ = ["Exploration", "ExploreColumn", "page_script"]

_PARTS = ("model", "scatter", "parallel", "multiples", "filters", "table", "start")
_DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ExploreColumn:
    """One column: ``values`` are numbers, or texts (any text makes it a column of texts); None is unknown.

    ``role``: "parameter" (what was chosen), "figure" (what came out), "flag" (only to filter by) or "note" (only in
    tips and in the table).
    ``better`` is "low" or "high" where the front may strive for it. ``scale`` is that of its axis.
    """

    id: str
    label: str
    values: Sequence[float | str | bool | None]
    unit: str = ""
    role: Literal["parameter", "figure", "flag", "note"] = "figure"
    better: Literal["", "low", "high"] = ""
    scale: Literal["linear", "log"] = "linear"

    def to_data(self) -> dict[str, Any]:
        """The column as the script reads it: texts as numbers into a list of them."""
        data: dict[str, Any] = {"id": self.id, "label": self.label, "unit": self.unit, "role": self.role}
        data |= {"better": self.better, "scale": self.scale}
        if any(isinstance(value, str | bool) for value in self.values):
            texts = {_text(value): None for value in self.values}
            places = {text: at for at, text in enumerate(texts)}
            codes = [places[_text(value)] for value in self.values]
            return {**data, "kind": "text", "texts": list(texts), "codes": codes}
        return {**data, "kind": "number", "values": [_number(value) for value in self.values]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """Columns of equal length. ``x``, ``y`` and ``third`` are the axes at first, the front is over those of them that
    have a better end; points compare only within one value of ``group`` (a column of texts). ``filters``: texts of a
    column that are shown at first."""

    columns: Sequence[ExploreColumn]
    x: str
    y: str
    third: str = ""
    colour: str = ""
    group: str = ""
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def json(self) -> str:
        """The data for a ``<script type="application/json">`` block: no character of it can end the block."""
        data = {
            "n": len(self.columns[0].values),
            "columns": [column.to_data() for column in self.columns],
            "axes": {"x": self.x, "y": self.y, "third": self.third},
            "colour": self.colour or self.columns[0].id,
            "group": self.group,
            "filters": {name: list(map(visible, texts)) for name, texts in self.filters.items()},
        }
        text = json.dumps(data, separators=(",", ":"), allow_nan=False)
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def page_script() -> PageScript:
    """The views' script in one closed piece."""
    return closed_script(*(f"explore_{part}.js" for part in _PARTS))


def _text(value: float | str | bool | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else visible(str(value))


def _number(value: float | str | None) -> float | None:
    """``value`` to six digits; None where it is no finite number."""
    if value is None or isinstance(value, str) or not math.isfinite(value):
        return None
    rounded = float(f"{value:.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 2**53 else rounded
