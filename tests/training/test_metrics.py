import json
import math

import jax.numpy as jnp
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cmpe_jax import metrics
from cmpe_jax.errors import UserError


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


def test_lines_past_the_restored_step_are_dropped_and_a_cut_line_too(tmp_path):
  writer = metrics.Writer(str(tmp_path), 0)
  for step in (10, 20, 30):
    writer.write(step, {'train/loss': 1.0 / step})
  writer.close()
  path = tmp_path / 'metrics.jsonl'
  path.write_text(path.read_text() + '{"step": 40, "tra')
  again = metrics.Writer(str(tmp_path), 20)
  assert again.find(20, 'train/') == {'train/loss': 0.05}
  again.write(30, {'train/loss': 7.0})
  again.close()
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert lines == [
    {'step': 10, 'train/loss': 0.1}, {'step': 20, 'train/loss': 0.05}, {'step': 30, 'train/loss': 7.0},
  ]  # fmt: skip


def test_the_curve_is_in_tensorboard_and_goes_on_after_a_restart(tmp_path):
  for start, steps in ((0, (1, 2, 3)), (2, (3, 4))):
    writer = metrics.Writer(str(tmp_path), start)
    for step in steps:
      writer.write(step, {'eval/accuracy': start + step})
    writer.close()
  events = EventAccumulator(str(tmp_path / 'tensorboard')).Reload().Scalars('eval/accuracy')
  assert [(event.step, event.value) for event in events] == [(1, 1.0), (2, 2.0), (3, 5.0), (4, 6.0)]


def test_a_workdir_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='workdir'):
    metrics.Writer(str(tmp_path / 'file' / 'run'), 0)


def test_the_progress_line_has_what_people_ask_for():
  values = {
    'train/loss': 0.5, 'train/accuracy': 0.875, 'train/learning_rate': 0.01, 'train/images_per_second': 1234.4,
    'train/data_wait': 0.031,
  }  # fmt: skip
  line = metrics.progress(50, 1000, 2.5, values, '0:01:40')
  for part in ('50/1000', '2.50', '0.5000', '87.50%', '0.01', '1234 images/s', '3%', '0:01:40'):
    assert part in line


def test_an_evaluation_is_a_line_in_the_same_columns_and_moving_averages_are_another():
  values = {'eval/loss': 0.25, 'eval/accuracy': 0.915, 'eval/top5': 1.0, 'eval/count': 364}
  line = metrics.evaluated(50, 1000, 'test', values)
  assert line == 'step   50/1000  test: accuracy  91.50%  top-5 100.00%  loss 0.2500'
  averaged = {f'eval_ema/{name.partition("/")[2]}': value for name, value in values.items()}
  assert metrics.evaluated(50, 1000, 'test', values | averaged) == f'{line}\n{line}  (moving averages)'
