"""Measurements on a device, and what they say of all networks: the best times of units, and how sure they are.

A network takes the sum over its units of count times exp(log time); measurements are off by a share that is not known.
A device may run all that is written, or what its result needs (two readings of the networks). The most probable times
are found by Gauss-Newton steps, for each reading, each prior and each share; the answers are averaged by how probable
they make what was measured (Laplace's approximation).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.search.predictor.prior import Prior

__all__ = ["NOISES", "Predicted", "chosen", "predicted"]

FloatArray = npt.NDArray[np.float64]

#: Shares by which measurements may be off, and how probable each is before any is seen.
NOISES = ((0.01, 0.1), (0.03, 0.3), (0.1, 0.4), (0.2, 0.2))
_STEPS = 6
_USUAL_NOISE = 0.03  # when networks are chosen
_READING_VARIANCE = 0.25  # of which reading is right, when networks are chosen
_MOST_UNLIKE = 1.0  # logarithm up to which readings count as unlike there


class Predicted(NamedTuple):
    """Of each network its time and the standard deviation of its logarithm, in the unit of what was measured."""

    times: FloatArray
    spreads: FloatArray


class _Answer(NamedTuple):
    times: FloatArray
    variances: FloatArray
    evidence: float


def predicted(
    readings: Sequence[FloatArray],
    priors: Sequence[Prior],
    rows: Sequence[int],
    measured: FloatArray,
    probable_readings: FloatArray,
) -> Predicted:
    """All networks of ``readings`` (each networks x units), of which those of ``rows`` were ``measured``.

    ``probable_readings``: how probable each reading is before anything is measured.
    """
    answers, weights = [], []
    for counts, of_reading in zip(readings, probable_readings, strict=True):
        a = _with_fixed(counts)
        own = a[list(rows)]
        for prior in priors:
            for noise, probable in NOISES:
                answer = _fitted(a, own, measured, prior, noise)
                answers.append(answer)
                weights.append(answer.evidence + np.log(probable * of_reading))
    shares = np.exp(np.array(weights) - max(weights))
    shares /= shares.sum()
    logs = np.log([answer.times for answer in answers])
    mean = shares @ logs
    within = shares @ np.array([answer.variances for answer in answers])
    between = shares @ (logs - mean) ** 2
    return Predicted(np.exp(mean), np.sqrt(within + between))


def chosen(readings: Sequence[FloatArray], priors: Sequence[Prior], pool: Sequence[int], n: int) -> list[int]:
    """``n`` networks of ``pool`` whose measurements would leave the least open of all of them, one after the other."""
    left = _open(readings, priors, pool)
    found: list[int] = []
    for _ in range(min(n, len(pool))):
        gain = (left**2).sum(0) / (np.diag(left) + _USUAL_NOISE**2)
        gain[found] = -1
        best = int(np.argmax(gain))
        found.append(best)
        column = left[:, best].copy()
        left -= np.outer(column, column) / (left[best, best] + _USUAL_NOISE**2)
    return [pool[at] for at in found]


def _open(readings: Sequence[FloatArray], priors: Sequence[Prior], pool: Sequence[int]) -> FloatArray:
    """The covariance of log times of the networks of ``pool``: by times of units, and by which reading is right."""
    mean = np.mean([prior.mean for prior in priors], axis=0)
    covariance = np.mean([prior.covariance for prior in priors], axis=0)
    written, *others = (_with_fixed(counts)[list(pool)] * np.exp(mean) for counts in readings)
    parts = written / written.sum(1)[:, None]
    left = parts @ covariance @ parts.T
    for other in others:
        unlike = np.clip(np.log(other.sum(1) / written.sum(1)), -_MOST_UNLIKE, _MOST_UNLIKE)
        unlike -= unlike.mean()
        left += _READING_VARIANCE * np.outer(unlike, unlike)
    return np.asarray(left)


def _with_fixed(counts: FloatArray) -> FloatArray:
    return np.hstack([np.ones((len(counts), 1)), counts])


def _fitted(a: FloatArray, own: FloatArray, measured: FloatArray, prior: Prior, noise: float) -> _Answer:
    mean = prior.mean + np.log(measured.mean() / (own @ np.exp(prior.mean)).mean())
    theta = mean.copy()
    for _ in range(_STEPS):
        solved, _, _ = _step(own, measured, theta, mean, prior.covariance, noise)
        step = solved - theta
        theta = theta + step * min(1.0, 1 / max(float(np.abs(step).max()), 1e-9))
    _, gain, (residual, covariance) = _step(own, measured, theta, mean, prior.covariance, noise)
    root = np.linalg.cholesky(covariance)
    white = np.linalg.solve(root, residual)
    evidence = float(-0.5 * white @ white - np.log(np.diag(root)).sum())
    times = a @ np.exp(theta)
    parts = a * np.exp(theta) / times[:, None]
    posterior = prior.covariance - gain @ (own * np.exp(theta)) @ prior.covariance
    variances = np.maximum(0.0, np.einsum("ij,jk,ik->i", parts, posterior, parts)) + noise**2
    return _Answer(np.asarray(times), np.asarray(variances), evidence)


def _step(
    own: FloatArray, measured: FloatArray, theta: FloatArray, mean: FloatArray, covariance: FloatArray, noise: float
) -> tuple[FloatArray, FloatArray, tuple[FloatArray, FloatArray]]:
    """The most probable log times with times linear around ``theta``; the gain; what is left and its covariance."""
    slopes = own * np.exp(theta)
    times = slopes.sum(1)
    residual = measured - times + slopes @ (theta - mean)
    of_measured = slopes @ covariance @ slopes.T + np.diag((noise * times) ** 2)
    gain = np.linalg.solve(of_measured, slopes @ covariance).T
    return np.asarray(mean + gain @ residual), np.asarray(gain), (residual, np.asarray(of_measured))
