"""What is known of a device before anything is measured on it: a distribution over the times of units.

The logarithm of the time of each unit is normal. Its mean and covariance are those of a family: machines that were
simulated, the plain ideas of a device (one that pays for operators, for products, for multiply-adds, for bytes), and
devices whose measurements are known. Beside that a device may be unlike all of them, by units: more so by what the
units compute (form) and by how large they are (size) than by unit. Each family is scaled so that the mean network
takes 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.search.predictor.units import Units

__all__ = ["Prior", "known_times", "priors", "probable_readings"]

FloatArray = npt.NDArray[np.float64]

#: How much known devices and simulated ones weigh, in each of the priors that are averaged; the last is for a device
#: that is like none of the known ones.
MIXES = ((1.0, 0.3), (1.0, 1.0), (0.0, 1.0))
#: Standard deviation of what makes a device unlike its family, and lengths of likeness by size and by form.
UNLIKE = (0.15, 0.3, 0.8)
LENGTHS = ((1.5, 0.7), (2.5, 1.2))
OF_UNIT_ALONE = 0.1  # variance of a unit's own against that of all of one size or form
FLOOR = 0.05  # a time below this part of the family's mean is taken for it
FIXED_SHARE = 0.05  # what every network takes, of the mean network
FIXED_VARIANCE = 0.5
SCALE_VARIANCE = 0.04
KNOWN_NOISE = 0.1  # of what is measured on known devices, of the mean network
KNOWN_FIXED = 0.2


class Prior(NamedTuple):
    """Mean and covariance of log time, of what every network takes and then of each unit."""

    mean: FloatArray
    covariance: FloatArray


def priors(units: Units, times: FloatArray, known: FloatArray) -> list[Prior]:
    """The priors that are averaged: of simulated ``times`` (machines x units), ``known`` ones (devices x 1 + units)."""
    ideas = _scaled(units, np.vstack([times, _ideas(units.traits)]))
    mean = ideas.mean(0)
    simulated = np.hstack([np.full((len(ideas), 1), np.log(FIXED_SHARE)), np.log(np.maximum(ideas, FLOOR * mean))])
    floors = FLOOR * np.concatenate([[0.5], mean])
    measured = np.log(np.maximum(known, floors)) if len(known) else np.zeros((0, simulated.shape[1]))
    kernels = [_likeness(units.traits, *lengths) for lengths in LENGTHS]
    found = []
    for of_known, of_simulated in MIXES if len(known) else MIXES[:1]:
        shares = np.concatenate(
            [
                np.full(len(one), weight / max(1, len(one)))
                for one, weight in ((measured, of_known), (simulated, of_simulated))
            ]
        )
        shares /= shares.sum()
        family = np.vstack([measured, simulated])
        centre = shares @ family
        off = family - centre
        covariance = (off * shares[:, None]).T @ off + SCALE_VARIANCE
        covariance[0, 0] += FIXED_VARIANCE
        for unlike in UNLIKE:
            for kernel in kernels:
                own = covariance.copy()
                own[1:, 1:] += unlike**2 * kernel
                found.append(Prior(centre, own))
    return found


def known_times(units: Units, times: FloatArray, measured: Sequence[FloatArray]) -> FloatArray:
    """Times of units on known devices (devices x 1 + units, mean network 1), from what each network takes there.

    The least squares of each device, drawn to the simulated mean where its networks leave something open, under that
    reading of the networks which leaves less.
    """
    found = [min(answers, key=_left)[1] for answers in _by_reading(units, times, measured)]
    return np.array(found).reshape(len(found), units.counts.shape[1] + 1)


def probable_readings(units: Units, times: FloatArray, measured: Sequence[FloatArray]) -> FloatArray:
    """How probable each reading of the networks is on a device yet unknown: as often as on the known ones, to which
    one of each is added (Laplace's rule of succession).
    """
    seen = np.ones(len(units.readings))
    for answers in _by_reading(units, times, measured):
        seen[int(np.argmin([left for left, _ in answers]))] += 1
    return np.asarray(seen / seen.sum())


def _by_reading(
    units: Units, times: FloatArray, measured: Sequence[FloatArray]
) -> Iterator[list[tuple[float, FloatArray]]]:
    """Of each known device, by reading: what is left of its measurements, and the times of units."""
    mean = _scaled(units, np.vstack([times, _ideas(units.traits)])).mean(0)
    centre = np.concatenate([[KNOWN_FIXED], (1 - KNOWN_FIXED) * mean])
    width = np.concatenate([[0.3], 2 * mean])
    for seconds in measured:
        rows = np.isfinite(seconds)
        y = seconds[rows] / seconds[rows].mean()
        yield [_regressed(counts[rows], y, centre, width) for counts in units.readings]


def _left(answer: tuple[float, FloatArray]) -> float:
    return answer[0]


def _regressed(counts: FloatArray, y: FloatArray, centre: FloatArray, width: FloatArray) -> tuple[float, FloatArray]:
    """What is left of ``y`` (sum of squares), and the times of units."""
    a = np.hstack([np.ones((len(counts), 1)), counts])
    precision = np.diag(1 / width**2) + a.T @ a / KNOWN_NOISE**2
    times = centre + np.linalg.solve(precision, a.T @ (y - a @ centre) / KNOWN_NOISE**2)
    return float(((y - a @ times) ** 2).sum()), np.asarray(times)


def _ideas(traits: FloatArray) -> FloatArray:
    """Devices that pay for one thing only: operators, products, multiply-adds (depthwise ones at 1, 5, 0), bytes."""
    dense, grouped, depthwise, maps, weights, operators, products = traits.T
    plain = dense + grouped
    ideas = [operators, products, plain + depthwise, plain + 5 * depthwise, maps, maps + weights, plain]
    return np.array([one for one in ideas if one.any()])


def _scaled(units: Units, times: FloatArray) -> FloatArray:
    """Times at which the mean network takes 1."""
    return np.asarray(times / (units.counts @ times.T).mean(0)[:, None])


def _likeness(traits: FloatArray, size_length: float, form_length: float) -> FloatArray:
    """How alike units are: by size, by form, and each like itself."""
    dense, grouped, depthwise, maps, weights, operators, _ = traits.T
    macs = dense + grouped + depthwise
    size = np.stack([np.log(maps + 1), np.log(weights + 1)], 1)
    form = np.stack(
        [np.log((macs + 1) / (maps + 1)), 2 * depthwise / (macs + 1), 2 * grouped / (macs + 1), operators / 2], 1
    )
    by_size, by_form = _near(size, size_length), _near(form, form_length)
    alone = by_size * by_form + np.eye(len(traits))
    return np.asarray(by_size + by_form + OF_UNIT_ALONE * alone)


def _near(places: FloatArray, length: float) -> FloatArray:
    off = (places[:, None] - places[None]) / length
    return np.asarray(np.exp(-0.5 * (off**2).sum(-1)))
