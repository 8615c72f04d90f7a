"""Commands of the package in a bucket, as a person starts them, and what lies there afterwards."""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
WORKDIR = '--workdir=gs://bucket/run'
ROLES = 'roles/storage.objectUser and roles/storage.legacyBucketReader'
CONFIG = """
from cmpe_jax.config import base

def get_config():
  config = base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'se'})
  config.update({'batch_size': 64, 'epochs': 0.62, 'learning_rate': 0.05, 'log_every_steps': 2, 'eval_every_steps': 7,
                 'checkpoint_every_steps': 5, 'keep_checkpoints': 2})
  return config
"""


class Commands:
  """Starts the package's commands as a person does, with the clients sent to the service."""

  def __init__(self, cloud, folder):
    self.cloud, self.folder = cloud, folder
    self.config = folder / 'tiny.py'
    self.config.write_text(CONFIG)

  def start(self, *arguments, module='cmpe_jax.main', **environment):
    paths = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    env = os.environ | {'XLA_FLAGS': '', 'PYTHONPATH': paths} | self.cloud.environment() | environment
    env = {name: value for name, value in env.items() if value is not None}
    return subprocess.Popen(
      [sys.executable, '-m', module, *map(str, arguments)],
      cwd=self.folder,
      env=env,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  def end(self, process, timeout=240):
    """Exit code, stdout, stderr."""
    try:
      out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
      process.kill()
      pytest.fail(f'no end within {timeout} s: {process.communicate()}')
    return process.returncode, out, err

  def main(self, *arguments, **options):
    return self.end(self.start(f'--config={self.config}', *arguments, **options))

  def tool(self, name, *arguments):
    return self.end(self.start(*arguments, module=f'cmpe_jax.tools.{name}'))


def names(cloud, below='run/'):
  """The objects below a prefix, but for the arrays' own, whose names are random."""
  found = cloud.store.list('bucket', {'prefix': below}).get('items', [])
  return [item['name'] for item in found if '/d/' not in item['name']]


def lines(cloud, name='run/metrics.jsonl'):
  return [json.loads(line) for line in cloud.store.get('bucket', name, {}).data.splitlines()]


def saved(cloud):
  """The steps of complete checkpoints, by Orbax's own mark."""
  found = [name.split('/') for name in names(cloud, 'run/checkpoints/')]
  return sorted(int(parts[2]) for parts in found if parts[3:] == ['commit_success.txt'])


def wait_for(cloud, path):
  end = time.monotonic() + 200
  while not cloud.faults.requests(path=path):
    assert time.monotonic() < end, path
    time.sleep(0.05)


def said(error):
  """What a person is told: no traceback."""
  assert 'Traceback' not in error, error
  return error
