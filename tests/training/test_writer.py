"""metrics.jsonl and TensorBoard's curves."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cmpe_jax.errors import UserError
from cmpe_jax.training.writer import Writer


def test_lines_past_the_restored_step_are_dropped_and_a_cut_line_too(tmp_path):
  writer = Writer(str(tmp_path), 0)
  for step in (10, 20, 30):
    writer.write(step, {'train/loss': 1.0 / step})
  writer.close()
  path = tmp_path / 'metrics.jsonl'
  path.write_text(path.read_text() + '{"step": 40, "tra')
  again = Writer(str(tmp_path), 20)
  assert again.find(20, 'train/') == {'train/loss': 0.05}
  again.write(30, {'train/loss': 7.0})
  again.close()
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert lines == [
    {'step': 10, 'train/loss': 0.1},
    {'step': 20, 'train/loss': 0.05},
    {'step': 30, 'train/loss': 7.0},
  ]


def test_the_curve_is_in_tensorboard_and_goes_on_after_a_restart(tmp_path):
  for start, steps in ((0, (1, 2, 3)), (2, (3, 4))):
    writer = Writer(str(tmp_path), start)
    for step in steps:
      writer.write(step, {'eval/accuracy': start + step})
    writer.close()
  events = EventAccumulator(str(tmp_path / 'tensorboard')).Reload().Scalars('eval/accuracy')
  assert [(event.step, event.value) for event in events] == [(1, 1.0), (2, 2.0), (3, 5.0), (4, 6.0)]


def test_a_workdir_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='workdir'):
    Writer(str(tmp_path / 'file' / 'run'), 0)
