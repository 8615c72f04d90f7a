"""What goes wrong in a bucket or on a disk: what passes is not noticed, the rest is said."""

import importlib.util
import subprocess

import pytest
from cloud_storage.commands import ROLES, WORKDIR, lines, said, saved

pytestmark = pytest.mark.skipif(importlib.util.find_spec('gcsfs') is None, reason='gcsfs is not installed')


@pytest.fixture
def cloud(commands):
  """The service that the commands talk to."""
  return commands.cloud


@pytest.mark.parametrize(
  ('permission', 'told'),
  [
    ('storage.buckets.get', f'storage.buckets.get.*{ROLES}'),
    pytest.param('storage.objects.create', f'storage.objects.create.*{ROLES}', marks=pytest.mark.slow),
    pytest.param('storage.objects.list', f'storage.objects.list.*{ROLES}', marks=pytest.mark.slow),
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


@pytest.mark.slow
def test_a_permission_lost_on_the_way(cloud, commands):
  cloud.faults.order(403, 'POST', 'run/checkpoints/10/', times=10**6)
  code, _, err = commands.main(WORKDIR)
  assert (code, ROLES in err.splitlines()[-1]) == (2, True), err  # after what Orbax itself logs
  assert saved(cloud) == [5]


@pytest.mark.parametrize(
  'orders',
  [
    pytest.param(
      [
        (503, 'POST', 'run/metrics'),
        (429, 'POST', 'run/checkpoints/5/state'),
        (503, 'GET', r'/b/bucket\?'),
        (412, 'POST', 'run/tensorboard'),
      ],
      id='busy',
    ),
    pytest.param(
      [('lost', 'POST', 'run/metrics'), ('lost', 'POST', 'manifest.ocdbt'), ('lost', 'POST', '^/batch')],
      id='lost',
      marks=pytest.mark.slow,
    ),
    pytest.param(
      [('cut', 'POST', 'run/checkpoints/5/'), ('cut', 'GET', 'run/checkpoints/5/.*alt=media')],
      id='cut',
      marks=pytest.mark.slow,
    ),
  ],
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
  assert (code, 'goes on from what was saved' in err.splitlines()[-1]) == (75, True), err
  cloud.faults.clear()
  code, _, err = commands.main(WORKDIR)
  assert code == 0, err
  assert saved(cloud)[-1] == 14


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
