"""Several processes on one machine, joined by JAX's own distributed runtime."""

import json
import os
import re
import signal
import time

import numpy as np
import pytest
from harness import begin, free_address

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import processes
from cmpe_jax.runtime.signals import Stop

AGREE = """
import sys, time
from cmpe_jax.errors import Interrupted, UserError
from cmpe_jax.runtime import processes
from cmpe_jax.runtime.signals import Stop

address, me = sys.argv[1], int(sys.argv[2])
processes.start(address, 2, me)

def fails():
  if me == 1:
    raise UserError('no data here')
  return 'data'

assert processes.together('fine', lambda: me) == me
facts = {'seed': 3, 'workdir': str(me)}
for attempt in (lambda: processes.together('data', fails), lambda: processes.check_same(facts)):
  try:
    attempt()
  except UserError as error:
    print('UserError', error)
assert processes.share('number', 10 + me) == [10, 11]
assert processes.first_says(me == 0)
if me == 0:
  try:
    processes.barrier('meeting', seconds=2)
  except Interrupted as error:
    print('Interrupted', error)
else:
  time.sleep(4)
"""

ALONE = """
import sys
from cmpe_jax.runtime import command, processes
sys.exit(command.run(lambda: processes.start(sys.argv[1], 2, 0, patience=5), ['alone']))
"""

ONE_FAILS = """
import sys, time
from cmpe_jax.runtime import command, processes

def body():
  processes.start(sys.argv[1], 2, int(sys.argv[2]))
  if sys.argv[2] == '1':
    raise ValueError('a fault in one process')
  time.sleep(100)

sys.exit(command.run(body, ['one fails']))
"""

CONFIG = """
from cmpe_jax.config import base

def get_config():
  config = base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'se'})
  config.update({'batch_size': 64, 'epochs': 0.62, 'log_every_steps': 1, 'eval_every_steps': 7,
                 'checkpoint_every_steps': 5, 'mixup_alpha': 1.0, 'dtype': 'float64', 'learning_rate': 0.05})
  return config
"""


def test_processes_share_errors_and_facts_and_a_barrier_names_who_is_missing():
  address = free_address()
  started = [begin(['-c', AGREE, address, str(process)]) for process in range(2)]
  outputs = [process.communicate(timeout=120)[0] for process in started]
  assert [process.returncode for process in started] == [0, 0], outputs
  for output in outputs:
    assert 'UserError process 1: no data here' in output
    assert 'UserError process 1 has another workdir than process 0 (1 against 0)' in output
    assert 'seed' not in output
  assert "Interrupted process 1 did not come to the barrier 'meeting' within 2 s" in outputs[0]


def test_a_start_without_the_others_ends_in_time_and_can_be_retried():
  began = time.monotonic()
  alone = begin(['-c', ALONE, free_address()])
  output = alone.communicate(timeout=120)[0]
  assert alone.returncode == 75, output
  assert time.monotonic() - began < 60


@pytest.mark.slow
def test_a_process_that_fails_keeps_its_exit_code_and_the_others_can_be_retried():
  address = free_address()
  started = [begin(['-c', ONE_FAILS, address, str(process)]) for process in range(2)]
  began = time.monotonic()
  outputs = [process.communicate(timeout=120)[0] for process in started]
  assert [process.returncode for process in started] == [75, 1], outputs
  assert time.monotonic() - began < 60
  assert 'a fault in one process' in outputs[1]
  assert 'lost contact' in outputs[0]


@pytest.mark.parametrize(
  ('given', 'said'),
  [
    (('host:1234', None, None), '--num_processes and --process_id'),
    ((None, 2, 0), '--coordinator_address'),
    (('host', 2, 0), 'HOST:PORT'),
    (('host:1234', 2, 2), 'process_id=2'),
  ],
)
def test_wrong_flags_are_named(given, said):
  with pytest.raises(UserError, match=said):
    processes.start(*given)


def test_one_process_needs_no_start_and_nobody_to_agree_with():
  processes.start(None, None, None)
  processes.barrier('nobody')
  assert processes.share('value', 1) == [1]
  with Stop() as stop:
    assert not stop()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop()


def main(tmp_path, workdir, *arguments, devices=4):
  config = tmp_path / 'small.py'
  config.write_text(CONFIG)
  return begin(['-m', 'cmpe_jax.main', f'--config={config}', f'--workdir={tmp_path / workdir}', *arguments], devices)


def pair(tmp_path, workdir, *arguments):
  address = free_address()
  flags = [f'--coordinator_address={address}', '--num_processes=2', *arguments]
  return [main(tmp_path, workdir, f'--process_id={process}', *flags) for process in range(2)]


def read_until(process, start):
  """What a process says, up to the first line that begins so."""
  said = []
  for line in process.stdout:
    said.append(line)
    if line.startswith(start):
      return
  pytest.fail(f'the process ended before {start!r}: ' + ''.join(said))


def written(tmp_path, workdir, name):
  lines = [json.loads(line) for line in (tmp_path / workdir / 'metrics.jsonl').read_text().splitlines()]
  return {line['step']: line[name] for line in lines if name in line}


@pytest.mark.slow
def test_two_processes_equal_one_and_a_restart_elsewhere_goes_on_with_the_same_batches(tmp_path):
  one = main(tmp_path, 'one', devices=8)
  assert one.wait(timeout=300) == 0, one.stdout.read()
  want = written(tmp_path, 'one', 'train/loss')
  assert list(want) == list(range(1, 15))  # 0.62 * 1433 / 64 = 13.9

  two = pair(tmp_path, 'two')
  outputs = [process.communicate(timeout=500)[0] for process in two]
  assert [process.returncode for process in two] == [0, 0], outputs
  got = written(tmp_path, 'two', 'train/loss')
  np.testing.assert_allclose(list(got.values()), list(want.values()), rtol=0, atol=1e-10)
  for name in ('eval/count', 'eval/accuracy'):
    assert written(tmp_path, 'two', name) == written(tmp_path, 'one', name)
  assert set(written(tmp_path, 'two', 'eval/count').values()) == {364}

  broken = pair(tmp_path, 'broken')
  read_until(broken[0], 'step  7/14')
  broken[1].send_signal(signal.SIGKILL)
  began = time.monotonic()
  output = broken[0].communicate(timeout=100)[0]
  assert broken[0].returncode == 75, output
  assert time.monotonic() - began < 60
  # Which of the two notices it first, the heartbeat or the computation, is chance.
  assert re.search('lost contact with another process|failed, as when one of them ends', output)

  rest = main(tmp_path, 'broken', devices=4)
  output = rest.communicate(timeout=300)[0]
  assert rest.returncode == 0, output
  assert 'going on from the checkpoint at step 5' in output
  got = written(tmp_path, 'broken', 'train/loss')
  assert got.keys() == want.keys()
  np.testing.assert_allclose(list(got.values()), list(want.values()), rtol=0, atol=1e-10)


@pytest.mark.slow
def test_the_first_float32_step_is_equal_to_rounding(tmp_path):
  short = ('--config.dtype=float32', '--config.epochs=0.085')
  one = main(tmp_path, 'one', *short, devices=8)
  assert one.wait(timeout=300) == 0, one.stdout.read()
  two = pair(tmp_path, 'two', *short)
  outputs = [process.communicate(timeout=500)[0] for process in two]
  assert [process.returncode for process in two] == [0, 0], outputs
  losses = [written(tmp_path, workdir, 'train/loss') for workdir in ('one', 'two')]
  assert [list(found) for found in losses] == [[1, 2]] * 2
  assert losses[1][1] == pytest.approx(losses[0][1], abs=1e-6)


@pytest.mark.slow
def test_sigterm_to_one_process_stops_both_at_the_same_step(tmp_path):
  both = pair(tmp_path, 'run', '--config.epochs=10.0', '--config.dtype=float32')
  read_until(both[0], 'step   3/')
  both[1].send_signal(signal.SIGTERM)
  outputs = [process.communicate(timeout=200)[0] for process in both]
  assert [process.returncode for process in both] == [75, 75], outputs
  said = [next(line for line in output.splitlines() if 'stopped and saved' in line) for output in outputs]
  assert said[0] == said[1]


@pytest.mark.slow
def test_another_config_in_one_process_is_refused_by_both(tmp_path):
  address = free_address()
  flags = [f'--coordinator_address={address}', '--num_processes=2']
  both = [main(tmp_path, 'run', f'--process_id={p}', f'--config.seed={p}', *flags) for p in range(2)]
  outputs = [process.communicate(timeout=200)[0] for process in both]
  assert [process.returncode for process in both] == [2, 2], outputs
  for output in outputs:
    assert 'process 1 has another config.seed than process 0 (1 against 0)' in output
    assert 'Traceback' not in output
