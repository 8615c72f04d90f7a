"""What several test files need."""

import os
import pathlib
import socket
import subprocess
import sys

from cmpe_jax.data import datasets
from cmpe_jax.data.datasets.dataset import Dataset
from cmpe_jax.training.checkpoint import Checkpoints

ROOT = pathlib.Path(__file__).parents[1]


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


def free_address():
  """'localhost:PORT' of a port that nobody uses."""
  with socket.socket() as found:
    found.bind(('localhost', 0))
    return f'localhost:{found.getsockname()[1]}'


def begin(arguments, devices=1, start_new_session=False, **environment):
  """`python ARGUMENTS`, with so many CPU devices; stderr is part of stdout.

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
    stderr=subprocess.STDOUT,
    text=True,
    start_new_session=start_new_session,
  )
