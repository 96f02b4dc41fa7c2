"""Texts of other people made safe to look at: what cannot be seen, or turns its neighbours round, is written out."""

from __future__ import annotations

import re

__all__ = ["visible"]

# Control characters but tab and line feed, halves of surrogate pairs, marks that change the direction of the text
# around them, invisible spaces, and line ends that only some programs know. Joiners stay: scripts need them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    r"""``text`` with such characters as ``\x1b`` or ``\u202e``; anything else stays as it is."""
    return _UNSEEN.sub(lambda found: _escaped(ord(found[0])), text)


def _escaped(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
