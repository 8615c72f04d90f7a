"""The statistics of a comparison against SciPy."""

import numpy as np
import pytest
import scipy.stats

from cmpe_jax.tools.shared import paired, rows


def test_intervals_are_those_of_the_paired_t_test():
  generator = np.random.default_rng(0)
  for count in (2, 3, 5, 20):
    values, others = generator.normal(99, 0.3, (2, count))
    found = paired.difference(values, others)
    want = scipy.stats.ttest_rel(values, others).confidence_interval(0.95)
    np.testing.assert_allclose([found.low, found.high], want, rtol=1e-9)
    assert found.mean == pytest.approx(values.mean() - others.mean())
    covers = scipy.stats.ttest_rel(values, others).pvalue > 0.05
    assert (found.verdict == 'no difference shown') == covers


def test_verdicts():
  assert paired.difference([3, 4, 5.1], [1, 2, 3]).verdict == 'higher'
  assert paired.difference([1, 2, 3], [3, 4, 5.1]).verdict == 'lower'
  assert paired.difference([1, 2], [1, 2]) == paired.Difference(0.0, 0.0, 0.0, 'no difference shown')
  same = paired.difference([99.5, 99.0], [99.0, 98.5])
  assert np.isnan(same.low)
  assert same.mean == 0.5
  assert rows.shown(same) == '+0.50 no interval: the same in every run'
