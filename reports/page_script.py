"""Scripts of pages: each in one closed piece, named by its hash in the page's policy: no other can run there."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

__all__ = ["PageScript", "closed_script"]

_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageScript:
    """The script of a page and the ``policy`` source that lets it, and nothing else, run."""

    text: str
    policy: str


@lru_cache(maxsize=8)
def closed_script(*files: str) -> PageScript:
    """The ``files`` of the folder of templates as one script that leaves no names behind."""
    sources = [(_TEMPLATES / name).read_text(encoding="utf-8") for name in files]
    text = '"use strict";\n(() => {\n' + "\n".join(sources) + "})();\n"
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return PageScript(text=text, policy=f"'sha256-{digest}'")
