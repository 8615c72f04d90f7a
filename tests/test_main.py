"""The command itself, in processes of its own with one device."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from harness import newest_arrays
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cmpe_jax.tools.summary import times
from cmpe_jax.training import starts

CONFIG = """
from cmpe_jax import config as configuration

def get_config():
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'none'})
  config.update({'batch_size': 64, 'epochs': 6.0, 'log_every_steps': 5, 'eval_every_steps': 50,
                 'checkpoint_every_steps': 7, 'mixup_alpha': 1.0, 'ema_decay': 0.9, 'steps_per_call': 1})
  return config
"""

OFTEN = ('--config.epochs=20.0', '--config.checkpoint_every_steps=3', '--config.eval_every_steps=30')
ENDS = {-signal.SIGKILL: '', 75: 'interrupted', 0: 'done'}
TIMED = ('train/images_per_second', 'train/data_wait')


def command(tmp_path, *arguments):
  config = tmp_path / 'small.py'
  config.write_text(CONFIG)
  return [sys.executable, '-m', 'cmpe_jax.main', f'--config={config}', *arguments]


def environment():
  return os.environ | {'XLA_FLAGS': '', 'PYTHONUNBUFFERED': '1'}


def run(tmp_path, *arguments):
  return subprocess.run(command(tmp_path, *arguments), env=environment(), capture_output=True, text=True, timeout=200)


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    (['--config.learning_rat=0.2'], '--config.learning_rat: no such key. Did you mean learning_rate'),
    (['--config.model.gat=se'], 'model.gate'),
    (['--config.batch_size=many'], 'batch_size'),
    (['--config.model.gate=sse'], "'pair_1x1'"),
    (['--config.model.depth=9'], 'depth=9'),
    (['--wokdir=x'], 'workdir'),
    (['--mode=test'], 'train|eval'),
    (['--checkpoint=last'], 'best|newest'),
    (['--profile=9:3'], '--profile=9:3'),
    (['more'], "'more' is not a flag"),
    (['--config=nowhere.py'], 'nowhere.py'),
    (['--mode=eval', '--workdir=nowhere'], 'nowhere'),
    (['--workdir={tmp_path}/small.py/run'], 'cannot be written'),
    (['--config.dataset=cifar10', '--config.data_dir=nowhere'], 'cmpe_jax.data.prepare'),
  ],
)
def test_wrong_inputs_end_with_code_2_and_one_sentence(arguments, said, tmp_path):
  done = run(tmp_path, *(argument.format(tmp_path=tmp_path) for argument in arguments))
  assert done.returncode == 2
  assert said in done.stderr
  assert 'Traceback' not in done.stderr
  assert len(done.stderr.strip().splitlines()) <= 2


@pytest.mark.parametrize(
  ('classes', 'image_size', 'said'),
  [
    (['cat'], 32, "has one class, 'cat'"),
    (['cat', 'dog'], 32, r'\d\.png is not a readable image'),
    (['cat', 'dog'], 96, r'\d\.png is not a readable image'),  # found while training: large images are read by threads
  ],
)
def test_wrong_folders_end_with_code_2_and_one_sentence(classes, image_size, said, tmp_path):
  for name in classes:
    (tmp_path / 'images' / name).mkdir(parents=True)
    for number in range(6):
      (tmp_path / 'images' / name / f'{number}.png').write_bytes(b'not an image')
  arguments = [f'--config.dataset=folder:{tmp_path}/images', f'--config.image_size={image_size}']
  done = run(tmp_path, f'--workdir={tmp_path}/run', '--config.batch_size=8', *arguments)
  assert done.returncode == 2
  assert done.stderr.startswith('error: ')
  assert re.search(said, done.stderr)
  assert len(done.stderr.splitlines()) == 1


def test_a_config_is_needed_and_help_is_no_error():
  bare = subprocess.run([sys.executable, '-m', 'cmpe_jax.main'], capture_output=True, text=True, timeout=60)
  assert bare.returncode == 2
  assert '--config=' in bare.stderr
  shown = subprocess.run([sys.executable, '-m', 'cmpe_jax.main', '--help'], capture_output=True, text=True, timeout=60)
  assert shown.returncode == 0
  assert '--workdir' in shown.stdout


def untimed(workdir):
  """The lines of metrics.jsonl, without what differs naturally; the first of a start averages as many steps as any."""
  lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  return [{name: value for name, value in line.items() if name not in TIMED} for line in lines]


def interrupt(tmp_path, workdir, number, delay, *arguments):
  """Starts the command, sends the signal some time after its first line of figures; returns exit code and output."""
  process = subprocess.Popen(
    command(tmp_path, f'--workdir={workdir}', *arguments),
    env=environment(),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  for line in process.stdout:
    if line.startswith('step '):
      break
  time.sleep(delay)
  process.send_signal(number)
  rest = process.communicate(timeout=100)[0]
  return process.returncode, rest


def test_killed_at_random_moments_the_same_command_ends_with_the_same_bits(tmp_path):
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'
  assert run(tmp_path, f'--workdir={whole}').returncode == 0
  seed = time.time_ns()
  print(f'the moments follow from seed {seed}')  # pytest shows it when the test fails
  delays = random.Random(seed)
  codes, seconds = [], []
  for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
    began = time.perf_counter()
    codes.append(interrupt(tmp_path, broken, number, delays.uniform(0, 0.5))[0])
    seconds.append(time.perf_counter() - began)
  assert set(codes) <= {-signal.SIGKILL, 75, 0}
  assert codes[0] == -signal.SIGKILL
  began = time.perf_counter()
  done = run(tmp_path, f'--workdir={broken}')
  seconds.append(time.perf_counter() - began)
  assert done.returncode == 0, done.stderr
  (step, want), (its_step, got) = newest_arrays(whole), newest_arrays(broken)
  assert step == its_step == 135  # 6 * 1433 / 64 = 134.3
  assert want.keys() == got.keys()
  assert len(want) > 100
  for name, value in want.items():
    np.testing.assert_array_equal(got[name], value, err_msg=name)
  assert untimed(whole) == untimed(broken)

  account = times.of_records(starts.read(str(broken)))  # of each start, the time and the steps that a kill has cost
  assert [start.ended for start in account.starts] == [ENDS[code] for code in [*codes, 0]]
  assert sum(start.kept - (start.first or 0) for start in account.starts) == 135
  assert [start.lost > 0 for start in account.starts if start.ended] == [False] * codes.count(75) + [False]
  for start, spent in zip(account.starts, seconds, strict=True):  # the rest: since the last word, and Python's own end
    assert 0 < spent - start.total < max(5, 0.5 * spent), seconds
  assert account.seconds('other') < 0.05 * account.total


def curves(workdir):
  """The points that TensorBoard reads, speeds aside: {name: [(step, value), ...]}."""
  found = EventAccumulator(str(workdir / 'tensorboard'), size_guidance={'scalars': 0}).Reload()
  names = [name for name in found.Tags()['scalars'] if name not in TIMED]
  return {name: [(event.step, event.value) for event in found.Scalars(name)] for name in names}


@pytest.mark.slow
def test_killed_twenty_times_the_arrays_lines_and_curves_are_those_of_one_run(tmp_path):
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'
  assert run(tmp_path, f'--workdir={whole}', *OFTEN).returncode == 0
  seed = time.time_ns()
  print(f'the moments follow from seed {seed}')
  draw, kills = random.Random(seed), 0
  while kills < 20:
    code, output = interrupt(tmp_path, broken, signal.SIGKILL, draw.uniform(0, 0.06), *OFTEN)
    if code == 0:  # it was faster: once more from the beginning of what a kill may have cost
      break
    assert (code, 'Traceback' in output) == (-signal.SIGKILL, False), output
    kills += 1
  done = run(tmp_path, f'--workdir={broken}', *OFTEN)
  assert done.returncode == 0, done.stderr
  (step, want), (its_step, got) = newest_arrays(whole), newest_arrays(broken)
  print(f'{kills} kills; {done.stdout.count("damaged")} put aside')
  assert kills == 20
  assert step == its_step
  assert want.keys() == got.keys()
  for name, value in want.items():
    np.testing.assert_array_equal(got[name], value, err_msg=name)
  assert untimed(whole) == untimed(broken)
  assert curves(whole) == curves(broken)
  assert len(curves(whole)) == 11


def test_sigterm_saves_and_ends_with_code_75(tmp_path):
  workdir = tmp_path / 'run'
  code, output = interrupt(tmp_path, workdir, signal.SIGTERM, 0.2)
  assert code == 75
  assert 'Traceback' not in output
  step, _ = newest_arrays(workdir)
  assert f'saved at step {step} of 135' in output
  code, _ = interrupt(tmp_path, workdir, signal.SIGINT, 0.1)
  assert code == 75
  refused = run(tmp_path, f'--workdir={workdir}', '--config.learning_rate=0.05', '--config.model.gate=se')
  assert refused.returncode == 2
  assert refused.stdout == ''
  assert 'learning_rate: 0.1 in the checkpoint, 0.05 now' in refused.stderr
  assert "model.gate: 'none' in the checkpoint, 'se' now" in refused.stderr
  assert 'Traceback' not in refused.stderr
  place = workdir / 'checkpoints' / str(newest_arrays(workdir)[0])
  large = [path for path in place.rglob('*') if path.is_file() and path.stat().st_size > 100_000]
  assert large  # two hold the arrays; which of them has the weights, which is all that is read here, varies
  for path in large:
    path.write_bytes(path.read_bytes()[:1000])
  damaged = run(tmp_path, f'--workdir={workdir}', '--mode=eval')
  assert damaged.returncode == 2
  # Not the only lines on a busy machine: Orbax's other reads, in threads of its own, may report their end as well.
  assert re.search(rf'^error: {place} is damaged \(.*\): remove it .*$', damaged.stderr, re.MULTILINE)
