"""Pages that a report holds beside its standard one, and the door through which they become known.

A page belongs to a kind of subject: what a report is about (``ReportCase`` of one layer, ``NetworkCase``,
``ComparisonResult``, ``FusionOutcome``, ``BitsResult``, ``MachineComparison``, ``Validation``). Every report about such
a subject then holds it as ``NAME.html``, with a link on the standard page.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from tilewright.errors import InputError
from tilewright.registry import Registry
from tilewright.reports.files import write_file

__all__ = ["LINKS", "PAGES", "ReportPage", "register_page", "write_page"]

#: Where the base template leaves room for links to these pages.
LINKS = "<!-- links to more pages -->"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPage:
    """A page called ``title`` about each ``subject`` (a class): ``make(subject)`` gives its HTML text.

    ``reports.page.render`` fills a template, one of Tilewright's or (a ``Path``) one that may extend ``base.html.j2``.
    """

    name: str
    title: str
    subject: type
    make: Callable[[Any], str]


PAGES: Registry[ReportPage] = Registry("report page", rooms=("tilewright.reports.pages",))


def register_page(page: ReportPage) -> ReportPage:
    """Make ``page`` known; its name becomes that of a file. Raises InputError for a name that is taken or no such."""
    if not _NAME.fullmatch(page.name) or page.name == "index":
        allowed = "lower-case letters, digits, - and _, but not index"
        raise InputError(f'report page: cannot be the name of its file; given "{page.name}"; allowed {allowed}')
    return PAGES.register(page.name, page)


def write_page(path: Path, html: str, subject: object) -> None:
    """Write ``html`` (a standard page about ``subject``) to ``path`` and the registered pages beside it.

    Beside ``index.html`` they are called ``NAME.html``, beside ``X.html`` ``X.NAME.html``. Raises InputError when a
    place cannot be written.
    """
    before = "" if path.stem == "index" else f"{path.stem}."
    links = []
    for page in PAGES.values():
        if isinstance(subject, page.subject):
            name = f"{before}{page.name}.html"
            write_file(path.with_name(name), page.make(subject))
            links.append(f'<a href="{escape(name)}">{escape(page.title)}</a>')
    write_file(path, html.replace(LINKS, f'<p class="soft">More: {", ".join(links)}</p>' if links else "", 1))
