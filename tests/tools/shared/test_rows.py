"""Tables of comparisons with missing runs, against SciPy."""

import numpy as np
import pytest
import scipy.stats

from cmpe_jax.tools.shared import rows


def runs(**accuracies):
  return {
    name: {seed: {'accuracy': x, 'loss': 0.1, 'seconds': 10.0, 'images': 1000} for seed, x in found.items()}
    for name, found in accuracies.items()
  }


def test_differences_are_of_the_seeds_that_both_have():
  se, none = {0: 0.91, 1: 0.92, 2: 0.935, 4: 0.9}, {0: 0.9, 2: 0.91, 3: 0.5, 4: 0.905}
  found = rows.rows(runs(none=none, se=se), ['none'], {'none': 1, 'se': 2})[1]
  ours, theirs = ([100 * values[seed] for seed in (0, 2, 4)] for values in (se, none))
  low, high = scipy.stats.ttest_rel(ours, theirs).confidence_interval(0.95)
  np.testing.assert_allclose([found.differences['none'].low, found.differences['none'].high], [low, high])
  assert found.mean == pytest.approx(100 * np.mean(list(se.values())))
  assert found.seeds == [0, 1, 2, 4]
  assert found.speed == pytest.approx(100)


def test_missing_runs_are_open():
  some = runs(none={0: 0.9, 1: 0.91}, se={0: 0.92}, ge={}, eca={1: 0.5, 2: 0.6})
  table = rows.table(rows.rows(some, ['none'], dict.fromkeys(some, 7)), ['none'], seeds=3)
  cells = {line[0]: line[1:5] for line in table[1:]}
  assert cells['none'] == ['2 of 3', '90.50 ± 0.71 %', '-', '9.50 ± 0.71 %']
  assert cells['se'] == ['1 of 3', '92.00 %', 'open', '8.00 %']
  assert cells['ge'] == ['0 of 3', 'open', 'open', 'open']
  assert cells['eca'][2] == 'open'  # one seed in common gives no interval
