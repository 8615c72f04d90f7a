"""Signals at moments when the loop cannot be asked: while it compiles, and inside an evaluation."""

import os
import re
import signal
import time

import jax
import numpy as np
import pytest
from harness import begin, newest_arrays, untimed

from cmpe_jax import config as configuration
from cmpe_jax.errors import Interrupted
from cmpe_jax.runtime.signals import Stop
from cmpe_jax.training import starts
from cmpe_jax.training.checkpoint import Checkpoints
from cmpe_jax.training.train import train


def make(**keys):
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'none'})
  config.update({'batch_size': 128, 'epochs': 0.7, 'log_every_steps': 5, 'steps_per_call': 3, 'ema_decay': 0.9})
  config.update({'checkpoint_every_steps': 4, 'eval_every_steps': 4, 'keep_checkpoints': 1, **keys})
  return config


def kept(workdir):
  """{step: score} of the checkpoints that are there."""
  found = Checkpoints(str(workdir))
  scores = found._scores()
  found.close()
  return scores


@pytest.fixture(scope='module', params=[pytest.param(0.0, marks=pytest.mark.slow), 0.1])
def whole(request, tmp_path_factory):
  """A configuration and the workdir of its run: 8 steps, an evaluation after each fourth."""
  workdir = tmp_path_factory.mktemp('whole')
  config = make(validation=request.param)
  train(config, str(workdir))
  return config, workdir


def signals_at(monkeypatch, name, numbers):
  """Sends SIGTERM to this process when a method of `Stop` is called for the n-th time, for each n."""
  method, count = getattr(Stop, name), iter(range(1, 10_000))

  def called(self, *given):
    if next(count) in numbers:
      os.kill(os.getpid(), signal.SIGTERM)
    return method(self, *given)

  monkeypatch.setattr(Stop, name, called)


def test_a_signal_that_was_ignored_before_stays_so():
  """As Ctrl-C is for `command &` in a script."""
  before = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    with Stop() as stop:
      os.kill(os.getpid(), signal.SIGINT)
      time.sleep(0.01)
      assert not stop()
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(0.01)
      assert stop()
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
  finally:
    signal.signal(signal.SIGINT, before)


# Programs are compiled for three steps, one step, and the evaluation, in this order; then anew in each start.
@pytest.mark.parametrize(
  'numbers',
  [
    pytest.param((1,), id='first', marks=pytest.mark.slow),
    pytest.param((2,), id='later', marks=pytest.mark.slow),
    pytest.param((3, 4), id='evaluation'),
  ],
)
def test_a_signal_during_a_compilation_is_answered_and_the_results_are_the_same(whole, tmp_path, numbers, monkeypatch):
  config, workdir = whole
  with monkeypatch.context() as patched:
    signals_at(patched, 'unless_told', numbers)
    for _ in numbers:
      with pytest.raises(
        Interrupted, match=r'^(interrupted\. The|stopped.* at step \d of 8: the) same command goes on from'
      ):
        train(config, str(tmp_path))
  assert (kept(tmp_path) == {}) == (numbers == (1,))  # there was nothing to save
  train(config, str(tmp_path))
  assert untimed(tmp_path) == untimed(workdir)
  assert kept(tmp_path) == kept(workdir)
  jax.tree.map(np.testing.assert_array_equal, newest_arrays(tmp_path)[1], newest_arrays(workdir)[1])


@pytest.mark.slow
def test_a_signal_between_two_batches_of_each_evaluation_costs_nothing(whole, tmp_path, monkeypatch):
  """In the middle of any of them, those that a start makes up and that at the end included."""
  config, workdir = whole
  config = config.copy_and_resolve_references()
  config.eval_batch_size = 64  # a free key, so that there are several batches
  train(config, str(tmp_path / 'whole'))
  ended = 0
  for start in range(20):
    with monkeypatch.context() as patched:
      signals_at(patched, 'check', (4 * start + 3,))
      try:
        train(config, str(tmp_path / 'broken'))
        break
      except Interrupted:
        ended += 1
  assert ended >= 2
  assert untimed(tmp_path / 'broken') == untimed(tmp_path / 'whole')
  scored = [{step: score for step, score in kept(tmp_path / name).items() if score} for name in ('whole', 'broken')]
  assert scored[0] == scored[1]
  jax.tree.map(np.testing.assert_array_equal, newest_arrays(tmp_path / 'broken')[1], newest_arrays(workdir)[1])


@pytest.mark.parametrize('number', [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_while_a_deep_network_compiles_for_its_first_step_the_command_ends_at_once(tmp_path, number):
  """That of ResNet-164 takes a minute, all of it inside of native code."""
  process = begin(
    ['-m', 'cmpe_jax.main', '--config=configs/base.py', f'--workdir={tmp_path}', '--config.batch_size=16'],
    JAX_COMPILATION_CACHE_DIR=str(tmp_path / 'cache'),
    start_new_session=True,
  )
  for line in process.stdout:
    if line.startswith('compiling'):
      break
  time.sleep(3.0)
  os.killpg(process.pid, number)
  began = time.monotonic()
  said = process.communicate(timeout=60)[0]
  assert time.monotonic() - began < 10
  first = r'interrupted\. The same command goes on from what was saved'  # by the thread that hears, or by the main one
  second = r'stopped at step 0 of \d+: the same command goes on from there'
  assert process.returncode == 75, said
  assert re.fullmatch(rf'({first}|{second})\.\n', said), said
  assert list((tmp_path / 'checkpoints').iterdir()) == []
  (start,) = starts.read(str(tmp_path))
  assert (start['ended'], start['done']) == ('interrupted', 0)


RACE = """
import os, signal, sys
from cmpe_jax.runtime import command
from cmpe_jax.runtime.signals import Stop, Told
from cmpe_jax.training import starts
from cmpe_jax.training.account import Account

def body():
  account = Account()
  with Stop(), starts.keep(account, sys.argv[1], is_first=True):
    account.begins(0, {})
    os.kill(os.getpid(), signal.SIGTERM)
    raise Told()

sys.exit(command.run(body, sys.argv[:1]))
"""


def test_a_start_that_two_threads_end_has_its_end_in_the_account(tmp_path):
  """The main thread leaves a compilation, say, while the one that heard the signal ends the process."""
  process = begin(['-c', RACE, str(tmp_path)])
  said = process.communicate(timeout=60)[0]
  assert (process.returncode, said) == (75, 'interrupted. The same command goes on from what was saved.\n')
  (start,) = starts.read(str(tmp_path))
  assert start['ended'] == 'interrupted'
