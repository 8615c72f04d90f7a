"""Runs with the same seeds, compared: mean, standard deviation, and the interval of a paired difference."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.stats

CONFIDENCE = 0.95
HIGHER, LOWER, NONE, EQUAL = 'higher', 'lower', 'no difference shown', 'no interval: the same in every run'


@dataclasses.dataclass(frozen=True)
class Difference:
  """A paired difference of means and its interval.

  Attributes:
    mean: of the differences, seed by seed.
    low, high: the interval of Student's t; nan where all differences are the same number other than 0.
    verdict: `HIGHER` or `LOWER` if the interval leaves out 0, `NONE` if it covers 0, `EQUAL` if there is none.
  """

  mean: float
  low: float
  high: float
  verdict: str


def moments(values: Sequence[float]) -> tuple[float, float]:
  """Mean and standard deviation (n - 1); nan where there are too few values for it."""
  mean = float(np.mean(values)) if values else float('nan')
  return mean, float(np.std(values, ddof=1)) if len(values) > 1 else float('nan')


def interval(values: Sequence[float]) -> tuple[float, float]:
  """The `CONFIDENCE` interval of the mean of two values at least: mean +- t * deviation / sqrt(n)."""
  mean, deviation = moments(values)
  quantile = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
  half = float(quantile) * deviation / len(values) ** 0.5
  return mean - half, mean + half


def difference(values: Sequence[float], reference: Sequence[float]) -> Difference:
  """values - reference, of the same seeds in the same order, two at least.

  mean +- t * deviation / sqrt(n), with t the quantile of Student's t of n - 1 degrees of freedom for `CONFIDENCE`.
  Differences that do not vary estimate no deviation, so nothing is claimed from them.
  """
  differences = np.asarray(values, np.float64) - np.asarray(reference, np.float64)
  mean, _ = moments(differences.tolist())
  if np.ptp(differences) < 1e-12:
    if abs(mean) < 1e-12:
      return Difference(0.0, 0.0, 0.0, NONE)
    return Difference(mean, float('nan'), float('nan'), EQUAL)
  low, high = interval(differences.tolist())
  return Difference(mean, low, high, HIGHER if low > 0 else LOWER if high < 0 else NONE)
