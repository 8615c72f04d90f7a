"""SIGTERM to the process group at random moments of real runs, from their start to their end."""

import os
import random
import shutil
import signal
import threading
import time

import numpy as np
import pytest
from harness import begin, same_run
from PIL import Image

pytestmark = pytest.mark.slow
SMALL = {'model.block': 'basic', 'model.depth': 8}
RUNS = {
  'validated': SMALL
  | {'validation': 0.1, 'ema_decay': 0.9, 'batch_size': 64, 'epochs': 3.0, 'log_every_steps': 7}
  | {'eval_every_steps': 5, 'checkpoint_every_steps': 10, 'steps_per_call': 2},
  # Photos that grow, read by two processes.
  'streamed': SMALL
  | {'image_size': 24, 'augmentation': 'random_resized', 'train_image_sizes': (16, 24), 'resident_megabytes': 0}
  | {'train_size_fractions': (0.5,), 'input_processes': 2, 'batch_size': 8, 'epochs': 12.0, 'log_every_steps': 7}
  | {'eval_every_steps': 9, 'checkpoint_every_steps': 10},
  # Compiles for a minute or more, once for its steps and once for its evaluations, before which nothing is saved.
  'deep': {'batch_size': 16, 'epochs': 0.044, 'log_every_steps': 1, 'eval_every_steps': 2}
  | {'checkpoint_every_steps': 1000},
}


@pytest.fixture
def images(tmp_path):
  for channel, name in enumerate(('red', 'green')):
    (tmp_path / 'images' / name).mkdir(parents=True)
    for number in range(20):
      pixels = np.random.default_rng(number).integers(0, 60, (20, 30, 3), np.uint8)
      pixels[..., channel] += 150
      Image.fromarray(pixels).save(tmp_path / 'images' / name / f'{number}.png')
  return tmp_path / 'images'


def start(name, images, workdir):
  keys = RUNS[name] | ({'dataset': f'folder:{images}'} if name == 'streamed' else {})
  flags = [f'--config.{key}={value}' for key, value in keys.items()]
  return begin(
    ['-m', 'cmpe_jax.main', '--config=configs/base.py', f'--workdir={workdir}', *flags],
    start_new_session=True,
    # Of its own, for each start of the deep one: nothing shortens its compilation.
    **({'JAX_COMPILATION_CACHE_DIR': f'{workdir}/cache/{time.time_ns()}'} if name == 'deep' else {}),
  )


def told(process, delay):
  """Sends the signal after so many seconds; exit code, output, last line before, seconds until the end."""
  said = []
  reading = threading.Thread(target=lambda: said.extend(iter(process.stdout.readline, '')))
  reading.start()
  try:
    process.wait(delay)
  except Exception:  # it runs
    last = said[-1].strip() if said else 'start-up'
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGTERM)
    code = process.wait(100)
    took = time.monotonic() - began
  else:
    code, last, took = process.returncode, 'ended', 0.0
  reading.join(20)
  return code, ''.join(said), last, took


@pytest.mark.parametrize(('name', 'signals'), [('validated', 8), ('streamed', 8), ('deep', 4)])
def test_always_75_within_10_seconds_and_an_exact_resume(name, signals, images, tmp_path, capfd):
  began = time.monotonic()
  code, said, *_ = told(start(name, images, tmp_path / 'whole'), 3000)
  whole = time.monotonic() - began
  assert code == 0, said
  seed = time.time_ns()
  draw, sent, broken = random.Random(seed), 0, tmp_path / 'broken'
  while True:
    delay = draw.uniform(1.0, 0.7 * whole) if sent < signals else 3000
    code, said, last, took = told(start(name, images, broken), delay)
    with capfd.disabled():
      print(f'{name} (seed {seed}): {delay:.1f} s, {last[:60]!r}: {code} within {took:.1f} s; {said[-70:].strip()!r}')
    assert 'Traceback' not in said, said
    if last == 'ended' or code == 0:  # the end came first
      assert code == 0, said
      same_run(tmp_path / 'whole', broken)
      if sent >= signals:
        break
      shutil.rmtree(broken)
    else:
      sent += 1
      assert code == 75, said
      assert took < 10, said
