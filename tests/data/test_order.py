"""The order of examples is a pure function of the seed and the step."""

import collections

import numpy as np
import pytest

from cmpe_jax.data import order


@pytest.mark.parametrize(('batch_size', 'count'), [(4, 10), (7, 10), (32, 10), (10, 10), (1, 3)])
def test_nothing_is_dropped_or_repeated(batch_size, count):
  """After k whole epochs every example was drawn k times, whatever the batch size; batches may span epochs."""
  steps = count * 3
  drawn = np.concatenate([order.draw(5, step, batch_size, count)[0] for step in range(steps)])
  for epoch in range(len(drawn) // count):
    assert sorted(drawn[epoch * count : (epoch + 1) * count]) == list(range(count))
  epochs = np.concatenate([order.draw(5, step, batch_size, count)[1] for step in range(steps)])
  assert epochs.tolist() == [position // count for position in range(len(drawn))]


def test_epochs_and_seeds_differ():
  orders = [order.permutation(seed, epoch, 50).tolist() for seed in range(3) for epoch in range(3)]
  assert len({tuple(one) for one in orders}) == 9


def test_positions_are_uniform():
  """Example 0 is equally often in each tenth of an epoch: chi-square with 9 degrees of freedom, 99.9% below 27.9."""
  places = [int(np.flatnonzero(order.permutation(0, epoch, 100) == 0)[0]) // 10 for epoch in range(2000)]
  counts = np.array([collections.Counter(places)[tenth] for tenth in range(10)])
  assert ((counts - 200) ** 2 / 200).sum() < 27.9


def test_any_step_at_once():
  drawn, epochs = order.draw(0, 10**8, 256, 1_281_167)
  assert epochs[0] == 10**8 * 256 // 1_281_167
  assert len(set(drawn.tolist())) == 256


def test_augmentation_streams():
  """Each (seed, epoch, example) has its own numbers, and they come back."""
  draws = {
    (seed, epoch, example): order.augmentation(seed, epoch, example).random(20).tobytes()
    for seed in range(3)
    for epoch in range(3)
    for example in range(3)
  }
  assert len(set(draws.values())) == 27
  assert order.augmentation(1, 2, 0).random(20).tobytes() == draws[1, 2, 0]
  # Neighbours share no shifted part of a stream either: a counter block holds four numbers.
  first, second = (np.frombuffer(draws[0, 0, example]) for example in (0, 1))
  assert not set(first) & set(second)


def test_held_out():
  held = order.held_out(0, 0.1, 1433)
  assert held.sum() == round(143.3)
  assert (held == order.held_out(0, 0.1, 1433)).all()
  assert (held != order.held_out(1, 0.1, 1433)).any()


def test_passes():
  batches = order.passes(4, 10)
  assert np.array(batches).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, -1, -1]]
