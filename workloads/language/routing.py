"""Which experts tokens go to: evenly, at random, by a power law of popularity, or as counted in a file.

A token goes to ``top_k`` different experts, independently of other tokens. Popularity gives each expert the chance that
a token takes it: with the popularity p of an expert that chance is 1 - exp(-a p), where ``a`` makes the chances add up
to ``top_k`` (the experts that arrive first when each arrives at its own rate). All experts alike that is k / E exactly.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tilewright.document_text import check_regular
from tilewright.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Routing", "fitted_exponent", "padded_rows", "rounded_loads", "routing_of"]

_WAYS = "balanced, uniform, skew=EXPONENT, or a file of counts (CSV with expert and count, or a JSON list)"
_MOST_EXPONENT = 8.0
_MOST_EXPERTS = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """``popularity`` of the experts, most popular first (any positive scale); empty: all alike.

    ``balanced``: tokens are spread as evenly as can be, not by chance. ``told``: in words.
    """

    told: str
    popularity: tuple[float, ...] = field(default=(), hash=True)
    balanced: bool = False

    def chances(self, n_experts: int, top_k: int) -> NDArray[np.float64]:
        """Of each expert, that a token goes to it; they add up to ``top_k``.

        Raises InputError where the popularity is that of another number of experts.
        """
        import numpy as np

        if not self.popularity:
            return np.full(n_experts, top_k / n_experts)
        if len(self.popularity) != n_experts:
            raise InputError(
                f"routing: {self.told}: given {len(self.popularity)} experts; allowed the router's {n_experts}"
            )
        return np.array(_chances(self.popularity, top_k))

    def distinct(self, n_experts: int, top_k: int, n_tokens: int) -> float:
        """Experts that at least one of ``n_tokens`` goes to, on the mean."""
        if self.balanced:
            return float(min(n_experts, n_tokens * top_k))
        return float((1 - (1 - self.chances(n_experts, top_k)) ** n_tokens).sum())

    def loads(self, n_experts: int, top_k: int, n_tokens: int, tile: int) -> float:
        """Times that an expert's weights are brought on the mean, once for each begun tile of ``tile`` rows."""
        import numpy as np
        from scipy.stats import binom

        if self.balanced or not n_tokens:
            return self.tile_rows(n_experts, top_k, n_tokens, tile) / tile
        begun = np.arange(0, n_tokens, tile)[:, None]
        return float(np.sum(binom.sf(begun, n_tokens, self.chances(n_experts, top_k)[None, :])))

    def tile_rows(self, n_experts: int, top_k: int, n_tokens: int, tile: int) -> float:
        """Rows that a grouped product computes, each expert's filled up to whole tiles of ``tile``, on the mean."""
        if self.balanced:
            whole, rest = divmod(n_tokens * top_k, n_experts)
            return float(padded_rows([whole + 1] * rest + [whole] * (n_experts - rest), tile))
        return sum(_mean_padded(n_tokens, float(chance), tile) for chance in self.chances(n_experts, top_k))


def routing_of(text: str, n_experts: int = 0) -> Routing:
    """The routing that ``text`` names: ``balanced``, ``uniform``, ``skew=1.2`` (of ``n_experts``), or a file of counts.

    Raises InputError for another text, an exponent out of range, and counts that are none.
    """
    word = text.strip()
    if word == "balanced":
        return Routing(told="spread evenly", balanced=True)
    if word == "uniform":
        return Routing(told="all experts alike")
    if word.startswith("skew="):
        return power_law(_exponent(word), n_experts)
    if Path(word).suffix in (".csv", ".json"):
        return Routing(told=f"as counted in {Path(word).name}", popularity=_counts(Path(word), n_experts))
    raise InputError(f"routing: given {word or 'nothing'}; allowed {_WAYS}")


def power_law(exponent: float, n_experts: int) -> Routing:
    """Popularity of the r-th expert as r to the power of minus ``exponent``."""
    return Routing(
        told=f"popularity by rank to the power of -{exponent:g}",
        popularity=tuple((rank + 1) ** -exponent for rank in range(n_experts)),
    )


def fitted_exponent(n_experts: int, top_k: int, seen: Sequence[tuple[int, float]]) -> float:
    """The exponent of :func:`power_law` with which batches of so many tokens use so large shares of the experts.

    ``seen``: tokens and share of each observation; least squares of the shares.
    """
    from scipy.optimize import minimize_scalar

    def missed(exponent: float) -> float:
        routing = power_law(exponent, n_experts)
        return sum((routing.distinct(n_experts, top_k, n) / n_experts - share) ** 2 for n, share in seen)

    return float(minimize_scalar(missed, bounds=(0.0, _MOST_EXPONENT / 2), method="bounded").x)


def padded_rows(loads: Sequence[int], tile: int) -> int:
    """Rows of whole tiles for experts with ``loads`` rows each; what is over their sum is waste."""
    return sum(-(-load // tile) * tile for load in loads)


def rounded_loads(loads: Sequence[int], tile: int) -> tuple[int, ...]:
    """``loads`` rounded to the nearest multiple of ``tile`` (halves up): no tile is then computed in part.

    Token rounding of SonicMoE: an expert gives up the rows that it likes least, or takes the next ones.
    """
    return tuple((load + tile // 2) // tile * tile for load in loads)


@lru_cache(maxsize=256)
def _chances(popularity: tuple[float, ...], top_k: int) -> tuple[float, ...]:
    import numpy as np
    from scipy.optimize import brentq

    share = np.array(popularity) / sum(popularity)
    positive = int((share > 0).sum())
    if top_k > positive:
        raise InputError(
            f"routing: {positive} experts are ever chosen; allowed at least the {top_k} that a token takes"
        )
    if top_k == positive:
        return tuple((share > 0).astype(float))

    def over(log_rate: float) -> float:
        return float((1 - np.exp(-np.exp(log_rate) * share)).sum()) - top_k

    rate = math.exp(brentq(over, -50.0, 300.0, xtol=1e-14))
    return tuple(1 - np.exp(-rate * share))


@lru_cache(maxsize=65_536)
def _mean_padded(n: int, chance: float, tile: int) -> float:
    """Mean of a binomial number of rows, filled up to whole tiles: every whole tile that is begun counts."""
    from scipy.stats import binom

    return sum(tile * float(binom.sf(begun, n, chance)) for begun in range(0, n, tile))


def _exponent(word: str) -> float:
    try:
        value = float(word.removeprefix("skew="))
    except ValueError:
        value = math.nan
    if not 0 <= value <= _MOST_EXPONENT:
        given = word.removeprefix("skew=")[:40] or "nothing"
        raise InputError(f"routing: skew: given {given}; allowed an exponent from 0 to {_MOST_EXPONENT:g}")
    return value


def _counts(path: Path, n_experts: int) -> tuple[float, ...]:
    check_regular(path, allowed="a file of how often each expert was chosen")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        raise InputError(f"{path}: cannot be read as text ({type(fault).__name__}); allowed {_WAYS}") from None
    found = _from_json(path, text) if path.suffix == ".json" else _from_csv(path, text, n_experts)
    if n_experts and len(found) != n_experts:
        raise InputError(f"{path}: given {len(found)} experts; allowed the router's {n_experts}")
    if not sum(found):
        raise InputError(f"{path}: no expert was ever chosen; allowed counts above 0")
    return tuple(sorted(found, reverse=True))


def _from_json(path: Path, text: str) -> list[float]:
    try:
        data = json.loads(text)
    except ValueError:
        raise InputError(f"{path}: no JSON; allowed a list of counts") from None
    if not isinstance(data, list) or not data or len(data) > _MOST_EXPERTS:
        raise InputError(f"{path}: given {type(data).__name__}; allowed a list of counts, one an expert")
    return [_count(f"{path}: expert {at}", value) for at, value in enumerate(data)]


def _from_csv(path: Path, text: str, n_experts: int) -> list[float]:
    reader = csv.DictReader(text.splitlines())
    if not {"expert", "count"} <= set(reader.fieldnames or ()):
        raise InputError(f"{path}: columns {', '.join(reader.fieldnames or ())}; allowed expert and count")
    found: dict[int, float] = {}
    most = n_experts or _MOST_EXPERTS
    for row in reader:
        place = f"{path}:{reader.line_num}"
        name = (row["expert"] or "").strip()
        if not name.isdigit() or int(name) >= most:
            raise InputError(f"{place}: expert: given {name[:40] or 'nothing'}; allowed 0 to {most - 1}")
        if int(name) in found:
            raise InputError(f"{place}: expert {name}: given twice; allowed once")
        found[int(name)] = _count(place, row["count"])
    size = n_experts or (max(found, default=-1) + 1)
    return [found.get(expert, 0.0) for expert in range(size)]


def _count(place: str, value: object) -> float:
    try:
        number = float(str(value)) if not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not 0 <= number < 1e15:
        raise InputError(f"{place}: given {str(value)[:40] or 'nothing'}; allowed a count from 0")
    return number
