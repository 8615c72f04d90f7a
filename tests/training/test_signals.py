"""Signals to a run whose images are read by processes of their own."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from harness import ROOT, newest_arrays
from PIL import Image


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  root = tmp_path_factory.mktemp('images')
  for channel, name in enumerate(('red', 'green')):
    (root / name).mkdir()
    for number in range(40):
      pixels = np.random.default_rng(number).integers(0, 60, (16, 16, 3), np.uint8)
      pixels[..., channel] += 150
      Image.fromarray(pixels).save(root / name / f'{number}.png')
  return root


def begin(images, workdir):
  flags = {
    'dataset': f'folder:{images}',
    'image_size': 16,
    'resident_megabytes': 0,
    'input_processes': 2,
    'batch_size': 8,
    'epochs': 40,
    'log_every_steps': 1,
    'model.block': 'basic',
    'model.depth': 8,
    'checkpoint_every_steps': 100,
    'eval_every_steps': 10_000,
  }
  return subprocess.Popen(
    [sys.executable, '-m', 'cmpe_jax.main', '--config=configs/base.py', f'--workdir={workdir}']
    + [f'--config.{key}={value}' for key, value in flags.items()],
    cwd=ROOT,
    env=os.environ | {'XLA_FLAGS': '', 'PYTHONUNBUFFERED': '1'},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    start_new_session=True,  # a group of its own, as a terminal gives
  )


def until(process, beginning):
  said = []
  for line in process.stdout:
    said.append(line)
    if re.match(beginning, line):
      return said
  raise AssertionError(''.join(said))


def workers(process):
  """The reading processes: the children but for the one that tracks shared memory."""
  found = []
  for entry in pathlib.Path('/proc').glob('[0-9]*'):
    try:
      is_child = int((entry / 'stat').read_text().rsplit(')', 1)[1].split()[1]) == process.pid
      if is_child and 'resource_tracker' not in (entry / 'cmdline').read_text():
        found.append(int(entry.name))
    except OSError:
      continue
  return found


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_group_saves_and_leaves_no_worker(images, tmp_path, number):
  process = begin(images, tmp_path)
  until(process, r'step +3/')
  children = workers(process)
  os.killpg(process.pid, number)
  rest = process.communicate(timeout=60)[0]
  assert process.returncode == 75, rest
  assert 'Traceback' not in rest
  step, _ = newest_arrays(tmp_path)
  assert f'stopped and saved at step {step} of' in rest
  assert len(children) >= 2
  end = time.monotonic() + 10
  while [child for child in children if pathlib.Path(f'/proc/{child}').exists()]:
    assert time.monotonic() < end, children
    time.sleep(0.1)


def test_a_worker_that_was_killed_is_a_sentence_and_resumable(images, tmp_path):
  process = begin(images, tmp_path)
  until(process, r'step +3/')
  for child in workers(process):
    os.kill(child, signal.SIGKILL)
  rest = process.communicate(timeout=90)[0]
  assert process.returncode == 75, rest
  assert 'a process that reads images was killed' in rest
  assert 'Traceback' not in rest
