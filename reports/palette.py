"""One colour for one meaning, in figures and pages (chosen to differ for colour-blind readers too)."""

from __future__ import annotations

from collections.abc import Mapping

from tilewright.workloads.kinds import KINDS

__all__ = [
    "ATTRIBUTION_COLOURS",
    "BASE_COLOUR",
    "BEST_COLOUR",
    "KIND_COLOURS",
    "component_colours",
    "ink_on",
    "operator_colours",
]

KIND_COLOURS: Mapping[str, str] = {
    "load": "#2a9d8f",
    "matrix": "#3b6fd4",
    "vector": "#e08a1e",
    "store": "#b0559e",
}
ATTRIBUTION_COLOURS: Mapping[str, str] = {
    "matrix": "#3b6fd4",
    "fill_drain": "#93b4ee",
    "vector": "#e08a1e",
    "dram": "#2a9d8f",
    "buffer_wait": "#c2453d",
    "l2": "#d9a3cd",
}
BASE_COLOUR = "#8a94a6"
_WHITE, _BLACK = "#ffffff", "#0d1117"
BEST_COLOUR = "#2f9e57"

_COMPONENT_COLOURS = {"matrix": "#3b6fd4", "vector": "#e08a1e", "dram": "#2a9d8f", "static": "#8a94a6"}
_BUFFER_COLOURS = ("#b0559e", "#d9a3cd", "#7d4bb3", "#5d2f66")


def operator_colours() -> dict[str, str]:
    """The colour of each kind of operator."""
    return {kind.name: kind.colour for kind in KINDS.values()}


def ink_on(colour: str) -> str:
    """The ink, white or nearly black, that reads better on ``colour`` (``#rrggbb``), by WCAG's contrast ratio."""
    light = _luminance(colour)
    return _WHITE if 1.05 / (light + 0.05) >= (light + 0.05) / (_luminance(_BLACK) + 0.05) else _BLACK


def _luminance(colour: str) -> float:
    """WCAG 2.1's relative luminance, 0 to 1."""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def component_colours(names: list[str]) -> dict[str, str]:
    """A colour for each energy component; whatever is not a known component is a buffer."""
    buffers = [name for name in names if name not in _COMPONENT_COLOURS]
    shades = {name: _BUFFER_COLOURS[i % len(_BUFFER_COLOURS)] for i, name in enumerate(buffers)}
    return {name: _COMPONENT_COLOURS.get(name) or shades[name] for name in names}
