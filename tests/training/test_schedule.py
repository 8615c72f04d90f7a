import ml_collections
import pytest

from cmpe_jax import config as configuration
from cmpe_jax.training import schedule


def make(**keys) -> ml_collections.ConfigDict:
  config = configuration.base()
  config.update(keys)
  return config


def test_total_rounds_the_last_epoch_up():
  assert schedule.of_config(make(epochs=2.0, batch_size=128), 1000).total == 16  # 2000 / 128 = 15.6
  assert schedule.of_config(make(epochs=2.0, batch_size=100), 1000).total == 20
  assert schedule.of_config(make(epochs=0.1, batch_size=100), 300).total == 1  # 0.1 * 300 is 30.000000000000004
  assert schedule.of_config(make(epochs=0.0), 1000).total == 0


def test_once_an_epoch_means_the_step_that_reaches_its_end():
  plan = schedule.of_config(make(epochs=3.0, batch_size=64, log_every_steps=1000), 150)
  evaluated = [t for t in range(1, plan.total + 1) if schedule.EVALUATE in plan.at(t)]
  assert plan.total == 8  # 450 / 64 = 7.03
  assert evaluated == [3, 5, 8]  # 192 >= 150, 320 >= 300, 512 >= 450


def test_batch_larger_than_the_split_has_an_event_every_step():
  plan = schedule.of_config(make(epochs=4.0, batch_size=100), 60)
  assert [schedule.CHECKPOINT in plan.at(t) for t in (1, 2, 3)] == [True, True, True]


def test_events_in_steps_and_the_last_step_has_all():
  plan = schedule.of_config(
    make(epochs=1.0, batch_size=10, log_every_steps=4, eval_every_steps=5, checkpoint_every_steps=6), 130
  )
  assert plan.total == 13
  assert {t: set(plan.at(t)) for t in range(1, 14) if plan.at(t)} == {
    4: {'log'},
    5: {'evaluate'},
    6: {'checkpoint'},
    8: {'log'},
    10: {'evaluate'},
    12: {'log', 'checkpoint'},
    13: {'log', 'evaluate', 'checkpoint'},
  }


def test_with_a_validation_part_each_checkpoint_is_evaluated():
  plan = schedule.of_config(
    make(validation=0.1, epochs=1.0, batch_size=10, eval_every_steps=4, checkpoint_every_steps=3), 80
  )
  assert [t for t in range(1, 9) if schedule.EVALUATE in plan.at(t)] == [3, 4, 6, 8]
  assert [t for t in range(1, 9) if schedule.CHECKPOINT in plan.at(t)] == [3, 6, 8]


@pytest.mark.parametrize('size', [1, 2, 4, 7])
def test_calls_cover_each_step_once_and_no_evaluation_falls_inside(size):
  plan = schedule.of_config(
    make(epochs=1.0, batch_size=10, steps_per_call=size, eval_every_steps=10, checkpoint_every_steps=15), 330
  )
  calls = list(plan.calls(0))
  steps = [step for first, count, _ in calls for step in range(first, first + count)]
  assert steps == list(range(33))
  assert {call.steps for call in calls} <= {1, size}
  ends = {call.first + call.steps for call in calls}
  assert {10, 15, 20, 30, 33} <= ends
  for first, count, _ in calls:  # whoever starts at a call's beginning makes the same calls from there on
    assert list(plan.calls(first)) == [call for call in calls if call[0] >= first]
    assert count == 1 or first % size == 0


def test_calls_from_a_step_inside_a_group_are_single_until_the_next_group():
  plan = schedule.of_config(
    make(epochs=1.0, batch_size=10, steps_per_call=4, eval_every_steps=100, checkpoint_every_steps=100), 140
  )
  assert [call[:2] for call in plan.calls(2)] == [(2, 1), (3, 1), (4, 4), (8, 4), (12, 1), (13, 1)]
  assert list(plan.calls(14)) == []


@pytest.mark.parametrize('size', [1, 4, 5])
def test_the_side_of_the_images_changes_at_its_step_and_inside_of_no_call(size):
  keys = {'train_image_sizes': (160, 192, 160), 'train_size_fractions': (0.5, 0.71), 'steps_per_call': size}
  plan = schedule.of_config(make(epochs=1.0, batch_size=10, eval_every_steps=8, checkpoint_every_steps=99, **keys), 210)
  sides = [160] * 11 + [192] * 4 + [160] * 6  # 0.5 and 0.71 of 21 steps are 10.5 and 14.91
  assert [plan.side(step) for step in range(21)] == sides
  assert plan.steps_by_side() == {160: 17, 192: 4}
  assert plan.largest_side == 192
  calls = list(plan.calls(0))
  assert [side for call in calls for side in [call.side] * call.steps] == sides
  assert any(call.steps > 1 for call in calls) == (size > 1)
  for call in calls:
    assert list(plan.calls(call.first)) == [other for other in calls if other.first >= call.first]


def test_a_size_of_which_no_step_is_taken_is_none_of_the_runs():
  plan = schedule.of_config(make(epochs=1.0, batch_size=10, image_size=32), 20)
  assert plan.steps_by_side() == {32: 2}
  keys = {'train_image_sizes': (16, 24, 32), 'train_size_fractions': (0.2, 0.3)}
  plan = schedule.of_config(make(epochs=1.0, batch_size=10, **keys), 20)
  assert plan.steps_by_side() == {16: 1, 32: 1}
  assert [plan.side(step) for step in range(2)] == [16, 32]
