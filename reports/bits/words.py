"""The words for costs and formats that tables, pictures and pages of bit widths share."""

from __future__ import annotations

from tilewright.formats import bits_per_element
from tilewright.search.bits.choose import BitsResult
from tilewright.search.bits.cost_kinds import COSTS

__all__ = ["cost_word", "curve_scale", "format_colour", "lead_text", "proof_text"]

# From few bits to many; 9 and more share the last.
_COLOURS = ((2.0, "#c2453d"), (3.0, "#d97a1e"), (4.6, "#e0a81e"), (6.6, "#4f9a4a"), (8.6, "#3b6fd4"))
_WIDE = "#7d4bb3"


def format_colour(name: str) -> str:
    """A colour for the width of a format: red for 2 bits, over yellow for 4, blue for 8."""
    width = float(bits_per_element(name))
    return next((colour for most, colour in _COLOURS if width <= most), _WIDE)


def lead_text(result: BitsResult) -> str:
    """What was searched and whether it is proven, in a sentence or two."""
    n_layers = sum(len(decision.layers) for decision in result.problem.decisions)
    rounds = "once" if result.n_rounds == 1 else f"{result.n_rounds} times"
    return (
        f"{n_layers} layers, {len(result.problem.decisions)} decisions. The formats of least summed sensitivity within "
        f"the budget; the program was solved {rounds}, until the run of the whole network kept it. "
        f"Sensitivity: {result.measured_by}."
    )


def proof_text(result: BitsResult) -> str:
    """Whether nothing is better, and under what."""
    return (
        "proven least under the sums of costs" if result.proven else f"at most {result.gap * 100:.2g} % above the least"
    )


def cost_word(kind: str) -> str:
    """What tables call a cost."""
    return COSTS.get(kind).word


def curve_scale(kind: str) -> tuple[float, str]:
    """Units per axis unit, and the axis title of a cost."""
    return COSTS.get(kind).axis
