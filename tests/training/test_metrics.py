import json
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


def test_means_go_on_from_their_sums_to_the_bit():
  values = [(0.1 * i + 1 / 3, i) for i in range(1, 9)]
  whole = metrics.Means()
  for pair in values:
    whole.add({'loss': pair})
  first = metrics.Means()
  for pair in values[:5]:
    first.add({'loss': pair})
  rest = metrics.Means(json.loads(json.dumps(first.sums)))
  for pair in values[5:]:
    rest.add({'loss': pair})
  assert rest.means() == whole.means()
  assert rest.sums == {'loss': (sum(total for total, _ in values), 36)}


def test_late_gives_everything_once_and_in_order():
  late = metrics.Late(behind=2)
  seen = []
  for i in range(5):
    seen += [(tag, int(value)) for tag, value in late.put(i, jnp.int32(10 * i))]
  assert seen == [(0, 0), (1, 10), (2, 20)]
  assert [(tag, int(value)) for tag, value in late.rest()] == [(3, 30), (4, 40)]
  assert list(late.rest()) == []
