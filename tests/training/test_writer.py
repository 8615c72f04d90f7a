"""metrics.jsonl and TensorBoard's curves."""

import json
import resource

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


def test_a_disk_that_takes_no_more_is_an_error_where_it_happens_and_no_wait_without_end(tmp_path):
  writer = Writer(str(tmp_path), 0)

  def write(count):
    for step in range(count):
      writer.write(step, {'train/loss': 1.0})

  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
  try:
    with pytest.raises(OSError, match='too large'):
      write(1000)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  write(1)
  writer.close()
  assert 100 < len(read(tmp_path)['train/loss']) < 1000


def test_a_workdir_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='workdir'):
    Writer(str(tmp_path / 'file' / 'run'), 0)


def read(workdir):
  """The curves as TensorBoard reads them: {name: [(step, value), ...]}."""
  found = EventAccumulator(str(workdir / 'tensorboard')).Reload()
  return {name: [(event.step, event.value) for event in found.Scalars(name)] for name in found.Tags()['scalars']}


def test_lines_that_cannot_be_read_are_dropped_and_counted(tmp_path, capsys):
  path = tmp_path / 'metrics.jsonl'
  whole = b'{"step": 10, "train/loss": 1.0}\n'
  bad = b'7\n{"step": 1\xff}\n[]\n{"step": "x"}\n{"step": 11, "train/loss": "x"}\n{"loss": 1}\nnull\n'
  path.write_bytes(whole + bad)
  Writer(str(tmp_path), 20).close()
  assert capsys.readouterr().err == f'{path}: 7 of 8 lines cannot be read and are dropped\n'
  assert path.read_bytes() == whole
  Writer(str(tmp_path), 20).close()
  assert capsys.readouterr().err == ''


def test_curves_of_a_killed_run_are_filled_up_from_the_lines(tmp_path):
  """As kill -9 leaves it: lines without points, a cut event, a second start that wrote nothing."""
  for place, kills in (('whole', False), ('killed', True)):
    for start, steps in ((0, range(1, 6)), (4, range(5, 9)), (6, range(7, 10))):
      writer = Writer(str(tmp_path / place), start)
      for step in steps:
        writer.write(step, {'train/loss': 1 / step, 'train/accuracy': 0.1 * step})
      writer.write(steps[-1], {'eval/loss': 2.0})
      writer.close()
      if kills and start < 6:
        (path,) = sorted((tmp_path / place / 'tensorboard').glob('*.1'))
        path.write_bytes(path.read_bytes()[:-150] if start else b'')
  curves = read(tmp_path / 'killed')
  assert curves == read(tmp_path / 'whole')
  assert [step for step, _ in curves['train/loss']] == list(range(1, 10))
  assert len(list((tmp_path / 'killed' / 'tensorboard').iterdir())) == 2


def test_points_keep_their_times(tmp_path):
  writer = Writer(str(tmp_path), 0)
  writer.write(1, {'train/loss': 1.0})
  writer.close()

  def time():
    return EventAccumulator(str(tmp_path / 'tensorboard')).Reload().Scalars('train/loss')[0].wall_time

  before = time()
  for _ in range(2):
    Writer(str(tmp_path), 1).close()
    assert time() == before
