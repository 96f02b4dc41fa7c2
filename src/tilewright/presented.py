"""What a result shows of itself: few lines of text, a table in a notebook, a picture, a page.

Results stand below the reports and know nothing of them; the reports know all results. So a result asks for its looks
by name, and only when somebody looks.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Pictured", "Shown"]


class Shown:
    """Few lines as text, and a table in a notebook; everything else is in the fields."""

    __slots__ = ()

    def __repr__(self) -> str:
        text: str = _reports("present").short_text(self)
        return text

    def _repr_html_(self) -> str:
        text: str = _reports("present").short_html(self)
        return text


class Pictured(Shown):
    """A result that can be drawn, too, and written as a page with all that explains it."""

    __slots__ = ()

    def plot(self, path: str | Path | None = None) -> Figure:
        """The result as a matplotlib figure, also written to ``path`` (``.png``, ``.svg``, ``.pdf``) if that is given.

        Raises InputError for a place that cannot be written or an ending that is none of these.
        """
        figure: Figure = _reports("present").picture(self, path)
        return figure

    def report(self, folder: str | Path) -> Path:
        """Write the page of the result and its files into ``folder``; gives the path of the page.

        Raises InputError when the folder cannot be written, and for a result that does not know its workload and its
        machine (one read from a file, say).
        """
        page: Path = _reports("present").write_report(self, folder)
        return page


def _reports(name: str) -> Any:
    return importlib.import_module(f"tilewright.reports.{name}")
