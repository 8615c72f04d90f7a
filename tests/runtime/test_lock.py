"""One run at a time in a workdir, on a disk and in a bucket."""

import contextlib
import json
import os
import signal
import subprocess
import time

import harness
import pytest

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import lock

HOLDER = """
import sys, time
from cmpe_jax.runtime import command, lock
from cmpe_jax.runtime.signals import Stop

def body():
  with lock.hold(sys.argv[1]), Stop():
    print('holds', flush=True)
    time.sleep(float(sys.argv[2]))

sys.exit(command.run(body, ['holder']))
"""


def begin(workdir, seconds=100.0, **environment):
  return harness.begin(['-c', HOLDER, str(workdir), str(seconds)], stderr=subprocess.PIPE, **environment)


def test_a_second_run_on_a_disk_is_refused_at_once_and_a_dead_one_holds_nothing(tmp_path):
  first = begin(tmp_path / 'run')
  assert first.stdout.readline() == 'holds\n'
  began = time.monotonic()
  second = begin(tmp_path / 'run')
  _, said = second.communicate(timeout=60)
  assert second.returncode == 2
  assert f'is in use by process {first.pid} on ' in said
  assert time.monotonic() - began < 10
  with lock.hold(str(tmp_path / 'other')):
    pass
  first.send_signal(signal.SIGKILL)
  first.wait()
  with lock.hold(str(tmp_path / 'run')):
    assert json.loads((tmp_path / 'run' / '.lock').read_text())['process'] == os.getpid()


def test_a_workdir_that_cannot_be_made_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='cannot be written'), lock.hold(str(tmp_path / 'file' / 'run')):
    pass


@pytest.fixture
def service():
  pytest.importorskip('gcsfs')
  from cloud_storage.server import Server

  with Server('bucket') as server:
    yield server


def test_a_second_run_in_a_bucket_is_refused_when_the_first_shows_life(service):
  first = begin('gs://bucket/run', **service.environment())
  assert first.stdout.readline() == 'holds\n', first.stderr.read()
  began = time.monotonic()
  second = begin('gs://bucket/run', **service.environment())
  _, said = second.communicate(timeout=90)
  assert second.returncode == 2, said
  assert f'is in use by process {first.pid} on ' in said
  assert time.monotonic() - began < 60
  with contextlib.suppress(ProcessLookupError):
    first.send_signal(signal.SIGKILL)
  first.wait()


def test_a_run_that_ends_leaves_the_lease_of_another_alone(service):
  first = begin('gs://bucket/run', 4.0, **service.environment())
  assert first.stdout.readline() == 'holds\n', first.stderr.read()
  service.store.put('bucket', 'run/.lease', b'of another run', {})
  assert first.wait(timeout=30) == 0
  assert service.store.get('bucket', 'run/.lease', {}).data == b'of another run'


def test_a_run_that_a_signal_ends_at_once_leaves_no_lease(service):
  """It had nothing to save, so a thread ended it, wherever it was."""
  first = begin('gs://bucket/run', **service.environment())
  assert first.stdout.readline() == 'holds\n', first.stderr.read()
  assert service.store.get('bucket', 'run/.lease', {}).data
  first.send_signal(signal.SIGTERM)
  assert first.communicate(timeout=30)[1] == 'interrupted. The same command goes on from what was saved.\n'
  assert first.returncode == 75
  second = begin('gs://bucket/run', 0.0, **service.environment())
  assert second.communicate(timeout=30) == ('holds\n', '')


@pytest.mark.slow
def test_a_lease_that_nobody_renews_is_taken_within_a_minute(service):
  first = begin('gs://bucket/run', **service.environment())
  assert first.stdout.readline() == 'holds\n', first.stderr.read()
  first.send_signal(signal.SIGKILL)
  first.wait()
  began = time.monotonic()
  second = begin('gs://bucket/run', 0.0, **service.environment())
  _, said = second.communicate(timeout=120)
  assert second.returncode == 0, said
  assert 'waiting up to 60 s' in said
  assert 55 < time.monotonic() - began < 80
  third = begin('gs://bucket/run', 0.0, **service.environment())  # a lease that ended is gone
  assert third.wait(timeout=30) == 0
