"""Many networks on a device that nobody described: predicted from a few measurements, and which to measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.errors import InputError
from tilewright.presented import Shown
from tilewright.progress import Progress
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.predictor.baseline import baseline
from tilewright.search.predictor.fit import chosen, predicted
from tilewright.search.predictor.prior import Prior, known_times, priors, probable_readings
from tilewright.search.predictor.units import FAMILY, Units, units_of_networks

__all__ = ["Prediction", "PredictionResult", "choose_networks", "predict_latencies"]

_MOST_IN_POOL = 4000
_SIDE_90 = 1.6449  # standard deviations of the normal distribution that leave out 5 % at a side
Times = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """``seconds`` of ``network``, within ``low`` and ``high`` with 90 %; ``baseline`` of the plain regression;
    ``measured`` where it was (None: not).
    """

    network: str
    seconds: float
    low: float
    high: float
    baseline: float | None
    measured: float | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PredictionResult(Shown):
    """``predictions`` from the fastest to the slowest, made from ``n_measured`` measurements, ``machines`` that were
    simulated and ``devices`` that are known.
    """

    predictions: tuple[Prediction, ...]
    n_measured: int
    machines: tuple[str, ...]
    devices: tuple[str, ...]

    @property
    def mean_spread(self) -> float:
        """The mean half width of the intervals, as a share."""
        return float(np.mean([np.sqrt(one.high / one.low) - 1 for one in self.predictions]))

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per network, the fastest first."""
        return [
            {
                "rank": rank,
                "network": one.network,
                "ms": one.seconds * 1e3,
                "low_ms": one.low * 1e3,
                "high_ms": one.high * 1e3,
                "baseline_ms": None if one.baseline is None else one.baseline * 1e3,
                "measured_ms": None if one.measured is None else one.measured * 1e3,
            }
            for rank, one in enumerate(self.predictions, start=1)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "measured": self.n_measured,
            "machines": list(self.machines),
            "devices": list(self.devices),
            "predictions": self.rows(),
        }


def predict_latencies(
    networks: Sequence[str],
    measured: Times,
    *,
    known: Mapping[str, Times] | None = None,
    family: Sequence[str] = FAMILY,
    cache: MappingCache | None = None,
    progress: Progress | None = None,
) -> PredictionResult:
    """Every one of ``networks``, and those ``measured`` (seconds by network), on the device that was measured.

    ``known``: seconds by network on other devices, of which each may lack some. Networks are ``SPACE/DIGITS`` of a
    search space or what ``tilewright simulate`` takes; the machines of ``family`` are simulated. Raises InputError for
    a network that cannot be read, and where nothing was measured.
    """
    if not measured:
        raise InputError("measurements: none; given no network with a time; allowed one or more, ten say much")
    others = known or {}
    names = tuple(dict.fromkeys([*networks, *measured]))
    units, priors_, probable, machines = _prepared(names, others, family, cache, progress)
    at = {name: row for row, name in enumerate(names)}
    rows, seconds = [at[name] for name in measured], np.array(list(measured.values()))
    found = predicted(units.readings, priors_, rows, seconds, probable)
    plain = _baseline(units, others, rows, seconds)
    spread = np.exp(_SIDE_90 * found.spreads)
    order = np.argsort(found.times, kind="stable")
    return PredictionResult(
        predictions=tuple(
            Prediction(
                network=names[row],
                seconds=float(found.times[row]),
                low=float(found.times[row] / spread[row]),
                high=float(found.times[row] * spread[row]),
                baseline=None if plain is None else float(plain[row]),
                measured=measured.get(names[row]),
            )
            for row in order
        ),
        n_measured=len(measured),
        machines=machines,
        devices=tuple(others),
    )


def choose_networks(
    networks: Sequence[str],
    n: int,
    *,
    known: Mapping[str, Times] | None = None,
    family: Sequence[str] = FAMILY,
    cache: MappingCache | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """``n`` of ``networks`` whose measurements would tell the most about all of them on a device yet unknown.

    Of more than 4,000 networks so many, evenly chosen, are looked at.
    """
    names = tuple(dict.fromkeys(networks))
    if not 1 <= n <= len(names):
        raise InputError(f"choose: given {n}; allowed 1 to {len(names)}, the networks that there are")
    units, priors_, *_ = _prepared(names, known or {}, family, cache, progress)
    pool = sorted(set(np.linspace(0, len(names) - 1, min(len(names), _MOST_IN_POOL)).astype(int).tolist()))
    return [names[row] for row in chosen(units.readings, priors_, pool, n)]


def _prepared(
    names: Sequence[str],
    known: Mapping[str, Times],
    family: Sequence[str],
    cache: MappingCache | None,
    progress: Progress | None,
) -> tuple[Units, list[Prior], np.ndarray[Any, np.dtype[np.float64]], tuple[str, ...]]:
    """Units, priors over their times, how probable each reading is, machines that were simulated."""
    units = units_of_networks(names)
    machines, times = units.times(family, cache=cache, progress=progress)
    columns = _columns(units, known)
    made = priors(units, times, known_times(units, times, columns))
    return units, made, probable_readings(units, times, columns), machines


def _columns(units: Units, known: Mapping[str, Times]) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Seconds of every network on each known device; nan where it was not measured."""
    return [np.array([own.get(name, np.nan) for name in units.networks]) for own in known.values()]


def _baseline(
    units: Units, known: Mapping[str, Times], rows: Sequence[int], seconds: np.ndarray[Any, np.dtype[np.float64]]
) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    columns = _columns(units, known)
    return baseline(units.counts, columns, rows, seconds) if columns else None
