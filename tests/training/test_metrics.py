import math

import jax.numpy as jnp

from cmpe_jax.training import metrics


def test_means_divide_last():
  means = metrics.Means()
  means.add({'loss': (6.0, 3), 'accuracy': (3, 3)})
  means.add({'loss': (4.0, 1), 'accuracy': (0, 1)})
  assert means.means() == {'loss': 2.5, 'accuracy': 0.75}
  assert means.count == 4
  means = metrics.Means()
  means.add({'loss': (0.0, 0)})
  assert math.isnan(means.means()['loss'])


def test_late_gives_everything_once_and_in_order():
  late = metrics.Late(behind=2)
  seen = []
  for i in range(5):
    seen += [(tag, int(value)) for tag, value in late.put(i, jnp.int32(10 * i))]
  assert seen == [(0, 0), (1, 10), (2, 20)]
  assert [(tag, int(value)) for tag, value in late.rest()] == [(3, 30), (4, 40)]
  assert list(late.rest()) == []
