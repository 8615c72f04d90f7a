"""The life of a run in a bucket: `--workdir=gs://...` from the first step to the exported program, and what goes wrong."""

import importlib.util
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest
from cloud_storage.server import Server

pytestmark = pytest.mark.skipif(importlib.util.find_spec('gcsfs') is None, reason='gcsfs is not installed')
ROOT = pathlib.Path(__file__).parents[2]
WORKDIR = '--workdir=gs://bucket/run'
ROLES = 'roles/storage.objectUser and roles/storage.legacyBucketReader'
CONFIG = """
from cmpe_jax import config as configs

def get_config():
  config = configs.base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'se'})
  config.update({'batch_size': 64, 'epochs': 0.62, 'learning_rate': 0.05, 'log_every_steps': 2, 'eval_every_steps': 7,
                 'checkpoint_every_steps': 5, 'keep_checkpoints': 2})
  return config
"""


@pytest.fixture
def cloud():
  with Server('bucket') as server:
    yield server


class Commands:
  """Starts the package's commands as a person does, with the clients sent to the service."""

  def __init__(self, cloud, folder):
    self.cloud, self.folder = cloud, folder
    self.config = folder / 'tiny.py'
    self.config.write_text(CONFIG)

  def start(self, *arguments, module='cmpe_jax.main', **environment):
    paths = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    env = os.environ | {'XLA_FLAGS': '', 'PYTHONPATH': paths} | self.cloud.environment() | environment
    return subprocess.Popen(
      [sys.executable, '-m', module, *map(str, arguments)],
      cwd=self.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

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


@pytest.fixture
def commands(cloud, tmp_path):
  return Commands(cloud, tmp_path)


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


def test_life(cloud, commands):
  cloud.faults.order('hang', 'POST', 'name=run/checkpoints/10/commit_success', seconds=5)
  first = commands.start(f'--config={commands.config}', WORKDIR)
  wait_for(cloud, 'name=run/checkpoints/10/commit_success')  # all of it is there but the mark
  first.send_signal(signal.SIGKILL)
  first.communicate()
  assert saved(cloud) == [5]
  cloud.faults.clear()

  code, out, err = commands.main(WORKDIR)
  assert code == 0, err
  assert 'going on from the checkpoint at step 5' in out
  assert saved(cloud) == [10, 14]
  assert [line['step'] for line in lines(cloud)] == [2, 4, 6, 7, 8, 10, 12, 14, 14]
  assert any(name.startswith('run/tensorboard/events.out.tfevents') for name in names(cloud))
  code, out, err = commands.main(WORKDIR)
  assert (code, 'nothing left to do' in out) == (0, True), err

  code, out, err = commands.main(WORKDIR, '--mode=eval')
  assert (code, 'gs://bucket/run/checkpoints/14' in out) == (0, True), err
  from PIL import Image

  Image.new('L', (8, 8)).save(commands.folder / 'digit.png')
  code, out, err = commands.tool('predict', WORKDIR, commands.folder / 'digit.png')
  assert (code, 'digit.png' in out) == (0, True), err
  code, out, err = commands.tool('export', WORKDIR, f'--output={commands.folder}/exported')
  assert (code, (commands.folder / 'exported/model.stablehlo').exists()) == (0, True), err
  assert not list(commands.folder.glob('gs:*'))  # nothing went into a folder of that name
  assert [request for request in cloud.faults.requests() if request.status in (500, 501)] == []


def test_the_same_numbers_as_in_a_folder(cloud, commands):
  assert commands.main(WORKDIR)[0] == commands.main(f'--workdir={commands.folder}/run')[0] == 0
  local = [json.loads(line) for line in (commands.folder / 'run/metrics.jsonl').read_text().splitlines()]
  timed = ('train/images_per_second', 'train/data_wait')
  ours, theirs = ([{k: v for k, v in line.items() if k not in timed} for line in run] for run in (lines(cloud), local))
  assert ours == theirs


def test_two_processes(cloud, commands):
  with socket.socket() as found:
    found.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{found.getsockname()[1]}'
  flags = [f'--config={commands.config}', WORKDIR, f'--coordinator_address={address}', '--num_processes=2']
  for more, wanted in (([], 'step 14/14'), (['--mode=eval'], 'test accuracy')):
    started = [commands.start(*flags, f'--process_id={number}', *more) for number in range(2)]
    ended = [commands.end(process) for process in started]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert wanted in ended[0][1]
  assert saved(cloud) == [10, 14]


@pytest.mark.parametrize(
  ('permission', 'told'),
  [
    ('storage.buckets.get', f'storage.buckets.get.*{ROLES}'),
    ('storage.objects.create', f'storage.objects.create.*{ROLES}'),
    ('storage.objects.list', f'storage.objects.list.*{ROLES}'),
  ],
)
def test_a_missing_permission_is_said_at_once(cloud, commands, permission, told):
  cloud.faults.deny('bucket', permission)
  code, out, err = commands.main(WORKDIR)
  assert (code, 'compiling' in out) == (2, False), err
  assert all(part in said(err) for part in told.split('.*'))


def test_a_missing_bucket_is_said_at_once(cloud, commands):
  code, _, err = commands.main('--workdir=gs://other-bucket/run')
  assert (code, 'gs://other-bucket does not exist' in said(err)) == (2, True)


def test_a_permission_lost_on_the_way(cloud, commands):
  cloud.faults.order(403, 'POST', 'run/checkpoints/10/', times=10**6)
  code, _, err = commands.main(WORKDIR)
  assert (code, ROLES in err.splitlines()[-1]) == (2, True), err  # after what Orbax itself logs
  assert saved(cloud) == [5]


@pytest.mark.parametrize(
  'orders',
  [
    [(503, 'POST', 'run/metrics'), (429, 'POST', 'run/checkpoints/5/state'), (503, 'GET', r'/b/bucket\?')],
    [('lost', 'POST', 'run/metrics'), ('lost', 'POST', 'manifest.ocdbt'), ('lost', 'POST', '^/batch')],
    [('cut', 'POST', 'run/checkpoints/5/'), ('cut', 'GET', 'run/checkpoints/5/.*alt=media')],
    [(412, 'POST', 'run/tensorboard')],
  ],
  ids=['busy', 'lost', 'cut', '412'],
)
def test_what_passes_is_not_noticed(cloud, commands, orders):
  faults = [cloud.faults.order(*order) for order in orders]
  code, _, err = commands.main(WORKDIR)
  assert code == 0, err
  assert [fault.times for fault in faults] == [0] * len(faults)
  assert saved(cloud) == [10, 14]
  assert [line['step'] for line in lines(cloud)] == [2, 4, 6, 7, 8, 10, 12, 14, 14]


@pytest.mark.slow
@pytest.mark.parametrize('path', ['run/checkpoints/10/_CHECKPOINT', 'run/metrics', 'run/tensorboard'])
def test_storage_that_stays_away_ends_resumable(cloud, commands, path):
  cloud.faults.order(503, 'POST', path, after=1 if 'checkpoints' not in path else 0, times=10**6)
  code, _, err = commands.main(WORKDIR)
  assert (code, 'goes on from the last checkpoint' in err.splitlines()[-1]) == (75, True), err
  cloud.faults.clear()
  code, _, err = commands.main(WORKDIR)
  assert code == 0, err
  assert saved(cloud)[-1] == 14


def test_a_profile_lands_in_the_bucket(cloud, commands):
  code, out, err = commands.main(WORKDIR, '--profile=3:5')
  assert (code, 'gs://bucket/run/profile' in out) == (0, True), err
  assert any(name.endswith('.xplane.pb') for name in names(cloud, 'run/profile/'))


def test_compiled_programs_in_the_bucket(cloud, commands):
  place = {'JAX_COMPILATION_CACHE_DIR': 'gs://bucket/compiled'}
  assert commands.main(WORKDIR, **place)[0] == 0
  kept = names(cloud, 'compiled/')
  assert kept
  cloud.faults.clear()
  assert commands.main('--workdir=gs://bucket/other', **place)[0] == 0
  assert names(cloud, 'compiled/') == kept
  assert not cloud.faults.requests('POST', 'name=compiled/')


def test_a_full_disk_is_said(commands):
  place = commands.folder / 'small'
  place.mkdir()
  if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1500k', 'tmpfs', place], capture_output=True).returncode:
    pytest.skip('needs the right to mount')
  try:
    code, _, err = commands.main(f'--workdir={place}/run')
  finally:
    subprocess.run(['umount', place], check=True)
  assert (code, 'full: make room' in err) == (2, True), err  # somewhere: TensorStore's threads complain meanwhile
