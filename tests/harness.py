"""What several test files need."""

import contextlib
import itertools
import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np

from cmpe_jax.data import datasets
from cmpe_jax.data.datasets.dataset import Dataset
from cmpe_jax.training.checkpoint import Checkpoints

ROOT = pathlib.Path(__file__).parents[1]
_ports = itertools.count()
TIMED = ('train/images_per_second', 'train/data_wait')


def materialize(resident, drawn):
  """The batch of one array's rows: a source's `materialize` for tests."""
  return {name: values[drawn] for name, values in resident.items()}


def dataset_of(class_names, size, mean=0.5, std=0.25, augmentation='none'):
  """A dataset without images."""
  means, deviations = (mean,) * 3, (std,) * 3
  return Dataset('test', size, means, deviations, tuple(class_names), augmentation, {}, True, content=None)


def resolved(config):
  """The configuration with its dataset's size and classes."""
  return datasets.describe(config).resolve(config)


def run_module(module, *arguments):
  """`python -m module arguments` in the repository, with the CPU devices it would have by itself."""
  return subprocess.run(
    [sys.executable, '-m', module, *arguments],
    cwd=ROOT,
    env=os.environ | {'XLA_FLAGS': ''},
    capture_output=True,
    text=True,
    timeout=280,
  )


def newest_arrays(workdir):
  """Step and arrays, by name, of the newest checkpoint."""
  checkpoints = Checkpoints(str(workdir))
  step = checkpoints.choose('newest')
  arrays = checkpoints.arrays(step)
  checkpoints.close()
  return step, arrays


def untimed(workdir):
  """The lines of metrics.jsonl without the figures that are times."""
  lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  return [{name: value for name, value in line.items() if name not in TIMED} for line in lines]


def same_run(whole, broken):
  """Asserts that two workdirs have the same lines and the same newest arrays, bit for bit."""
  assert untimed(whole) == untimed(broken)
  (step, want), (its_step, got) = newest_arrays(whole), newest_arrays(broken)
  assert (step, want.keys()) == (its_step, got.keys())
  for name, value in want.items():
    np.testing.assert_array_equal(got[name], value, err_msg=name)


def free_address():
  """'localhost:PORT' of a port that nobody uses."""
  while True:
    port = 20_000 + (37 * os.getpid() + next(_ports)) % 12_000  # the system gives no such port to who asks for any
    with contextlib.suppress(OSError), socket.socket() as found:
      found.bind(('localhost', port))
      return f'localhost:{port}'


def begin(arguments, devices=1, start_new_session=False, stderr=subprocess.STDOUT, **environment):
  """`python ARGUMENTS`, with so many CPU devices; stderr is part of stdout unless it is given.

  With `start_new_session` it leads a process group of its own, as a terminal gives.
  """
  environment = (
    os.environ
    | environment
    | {'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}', 'PYTHONUNBUFFERED': '1'}
  )
  return subprocess.Popen(
    [sys.executable, *arguments],
    cwd=ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=stderr,
    text=True,
    start_new_session=start_new_session,
  )
