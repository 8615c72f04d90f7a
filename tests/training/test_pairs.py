"""Two processes of one run: killed while they save, or told to stop at random moments, one of them or both."""

import contextlib
import random
import shutil
import signal
import subprocess
import time

import pytest
from harness import begin, free_address, same_run

pytestmark = pytest.mark.slow
KEYS = {
  'model.block': 'basic',
  'model.depth': 8,
  'batch_size': 64,
  'epochs': 1.5,
  'validation': 0.1,
  'log_every_steps': 4,
  'eval_every_steps': 6,
  'checkpoint_every_steps': 3,
}


def pair(workdir):
  flags = [f'--config.{key}={value}' for key, value in KEYS.items()]
  flags += [f'--coordinator_address={free_address()}', '--num_processes=2', f'--workdir={workdir}']
  command = ['-m', 'cmpe_jax.main', '--config=configs/base.py', *flags]
  return [begin([*command, f'--process_id={process}'], devices=2) for process in (0, 1)]


def ended(both, seconds=600):
  outputs = [process.communicate(timeout=seconds)[0] for process in both]
  return [process.returncode for process in both], outputs


def finish(workdir):
  codes, outputs = ended(pair(workdir))
  assert codes == [0, 0], outputs


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """The workdir of an uninterrupted run, and the seconds it took."""
  workdir, began = tmp_path_factory.mktemp('whole'), time.monotonic()
  finish(workdir)
  return workdir, time.monotonic() - began


def half_written(workdir):
  """The checkpoints that are being written, or that a killed process left so, by what tells the one from the other."""
  found = set()
  with contextlib.suppress(FileNotFoundError):
    for path in (workdir / 'checkpoints').iterdir():
      if 'tmp' in path.name:
        with contextlib.suppress(FileNotFoundError):
          found.add((path.name, path.stat().st_ino))
  return found


def kill_during_a_save(workdir, victim, number):
  """Kills one of a pair inside its save of this number, from 1: exit codes, outputs, seconds; None: it ended before."""
  before = half_written(workdir)
  both = pair(workdir)
  while (now := half_written(workdir) - before) or both[0].poll() is None:
    number -= bool(now)
    before |= now
    if now and number == 0:
      both[victim].send_signal(signal.SIGKILL)
      is_inside = bool(now & half_written(workdir))
      began = time.monotonic()
      return *ended(both), time.monotonic() - began, is_inside
    time.sleep(0.001)
  codes, outputs = ended(both)
  assert codes == [0, 0], outputs
  return None


def test_six_pairs_with_one_killed_during_a_save_end_with_75_and_resume_exactly(whole, tmp_path, capfd):
  seed = time.time_ns()
  draw, kills = random.Random(seed), 0
  while kills < 6:
    victim, number = kills % 2, draw.randrange(1, 4)
    killed = kill_during_a_save(tmp_path, victim, number)
    if killed is None:
      same_run(whole[0], tmp_path)
      shutil.rmtree(tmp_path)
      continue
    codes, outputs, took, is_inside = killed
    with capfd.disabled():
      print(f'seed {seed}: process {victim} killed in save {number} (inside: {is_inside}): {codes} within {took:.0f} s')
    assert (codes[victim], codes[1 - victim]) == (-signal.SIGKILL, 75), outputs
    assert 'Traceback' not in outputs[1 - victim], outputs
    assert took < 45, outputs
    kills += is_inside
  finish(tmp_path)
  same_run(whole[0], tmp_path)


def met(workdir):
  """When the two that run last had met; before that each waits for the other, which may be started again."""
  mark = workdir / '.started'
  return mark.stat().st_mtime_ns if mark.exists() else 0


def test_signals_at_random_moments_end_both_with_75(whole, tmp_path, capfd):
  seed = time.time_ns()
  draw, sent = random.Random(seed), 0
  while sent < 8:
    before = met(tmp_path)
    both, told = pair(tmp_path), ((0,), (1,), (0, 1))[sent % 3]
    while met(tmp_path) == before and both[0].poll() is None:
      time.sleep(0.05)
    with contextlib.suppress(subprocess.TimeoutExpired):
      both[0].wait(draw.uniform(0.0, 0.7 * whole[1]))
    if both[0].poll() is None:
      began = time.monotonic()
      for process in told:
        both[process].send_signal(signal.SIGTERM)
      codes, outputs = ended(both)
      took = time.monotonic() - began
      lasts = [output.splitlines()[-1][-80:] if output else '' for output in outputs]
      with capfd.disabled():
        print(f'seed {seed}: {told} told: {codes} within {took:.1f} s; {lasts}')
      assert codes == [75, 75] or codes == [0, 0], outputs
      assert took < 10, outputs
      sent += 1
    else:
      codes, outputs = ended(both)
      assert codes == [0, 0], outputs
    if codes == [0, 0]:
      same_run(whole[0], tmp_path)
      shutil.rmtree(tmp_path)
  finish(tmp_path)
  same_run(whole[0], tmp_path)
