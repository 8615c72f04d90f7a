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


def test_held_out_is_a_part_of_each_class():
  labels = np.random.default_rng(0).integers(0, 10, 1433)
  held = order.held_out(0, 0.1, labels)
  assert held.sum() == round(143.3)
  parts = np.bincount(labels[held], minlength=10) - 0.1 * np.bincount(labels)
  assert abs(parts).max() < 1
  assert (held == order.held_out(0, 0.1, labels)).all()
  assert (held != order.held_out(1, 0.1, labels)).any()
  assert order.held_out(0, 0.5, np.arange(10)).sum() == 5  # more classes than examples to hold out
  assert order.held_out(0, 0.1, np.zeros(50, int)).sum() == 5


def test_what_is_held_out_has_nothing_to_do_with_the_order_of_an_epoch():
  """The stream of version 1.0 was that of epoch 0; today's is another."""
  first = order.permutation(0, 0, 1000)[:100]
  assert order.held_out_by_position(0, 0.1, 1000)[first].all()
  assert order.held_out(0, 0.1, np.zeros(1000, int))[first].sum() < 25  # hypergeometric: 10, standard deviation 2.8


def test_held_out_by_position_is_what_version_1_0_drew():
  assert np.flatnonzero(order.held_out_by_position(0, 0.1, 60)).tolist() == [22, 24, 30, 44, 48, 56]
  assert order.held_out_by_position(0, 0.1, 1433).sum() == round(143.3)


def test_passes():
  batches = order.passes(4, 10)
  assert np.array(batches).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, -1, -1]]
