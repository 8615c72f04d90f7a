"""A file of times that cannot be written: found before the work, and if it happens after it, nothing is lost."""

import functools
import types

import pytest
from harness import run_module

from cmpe_jax import config as configuration
from cmpe_jax.errors import UserError
from cmpe_jax.tools.benchmark import programs, step, times

SMALL = ('--config=configs/digits.py', '--config.model.block=basic', '--config.model.depth=8', '--config.batch_size=4')

run = functools.partial(run_module, 'cmpe_jax.tools.benchmark')


@pytest.mark.parametrize('place', ['/etc/passwd', '/proc'])
def test_a_file_that_cannot_be_written_is_found_before_anything_is_measured(place):
  done = run('step', *SMALL, f'--json={place}/x.json')
  assert done.returncode == 2
  assert done.stderr.startswith(f'error: {place}/x.json cannot be written (')
  assert done.stderr.endswith('): give another --json.\n')
  assert 'compiling' not in done.stderr


def test_times_are_printed_though_the_file_cannot_be_written(tmp_path, monkeypatch, capsys):
  """As where the disk is full when all is measured."""
  own = {'median': 0.5, 'low': 0.5, 'high': 0.5}
  runner = types.SimpleNamespace(expected=1.0, turn=None, images=4, memory={'peak': 1e9}, compiling=1.0)
  monkeypatch.setattr(times, 'Runner', lambda *arguments: runner)
  monkeypatch.setattr(times, 'interleave', lambda turns, rounds: dict.fromkeys(turns, [0.5]))
  monkeypatch.setattr(times, 'summary', lambda *arguments: {'seconds': own, 'images_per_second': 8.0})
  monkeypatch.setattr(step.flags, 'FLAGS', types.SimpleNamespace(rounds=1))
  monkeypatch.setattr(step.command, 'config_name', lambda: 'small')
  config = configuration.load('digits')
  (tmp_path / 'taken').touch()
  with pytest.raises(UserError, match=r'a\.json cannot be written .*: give another --json'):
    step.measure(config, programs.settings(['pre'], ['none'], ['fused'], ['infer']), tmp_path / 'taken' / 'a.json')
  assert 'pre none - infer  500.0' in capsys.readouterr().out
