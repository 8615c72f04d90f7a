"""What goes wrong on request in the stand-in for Cloud Storage, as its clients see it."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest
from cloud_storage import faults as orders

pytestmark = pytest.mark.skipif(importlib.util.find_spec('gcsfs') is None, reason='gcsfs is not installed')


def test_permissions(cloud, bucket, blobs, files):
  from google.api_core import exceptions
  from google.cloud import storage

  assert storage.Client().get_bucket(bucket).name == bucket
  cloud.faults.deny(bucket, 'storage.buckets.get')
  with pytest.raises(exceptions.Forbidden, match=r'storage\.buckets\.get'):
    storage.Client().get_bucket(bucket)
  blobs.blob('one').upload_from_string('1')
  cloud.faults.deny(bucket, 'storage.objects.create')
  with pytest.raises(OSError, match=r'Forbidden.*\n.*storage\.objects\.create'):
    files.pipe_file(f'{bucket}/two', b'2')
  assert files.cat_file(f'{bucket}/one') == b'1'


@pytest.mark.parametrize('kind', [503, 429, 'cut', 'lost'])
def test_gcsfs_tries_again(cloud, bucket, files, kind):
  cloud.store.put(bucket, 'one', b'1234', {})
  fault = cloud.faults.order(kind, 'GET', 'alt=media')
  assert files.cat_file(f'{bucket}/one') == b'1234'
  assert fault.times == 0
  assert [request.fault for request in cloud.faults.requests('GET', 'alt=media')] == [kind, None]


@pytest.mark.parametrize('kind', [503, 'cut', 'lost'])
def test_tensorstore_tries_again(cloud, values, kind):
  cloud.faults.order(kind, 'POST', 'name=values/x')
  values.write('x', b'1' * 1000).result()
  assert values.read('x').result().value == b'1' * 1000
  assert len(cloud.faults.requests('POST', 'name=values/x')) == 2


@pytest.mark.parametrize(('kind', 'raised'), [(403, 'Forbidden'), (412, 'FileExistsError')])
def test_gcsfs_gives_up(cloud, bucket, files, kind, raised):
  cloud.faults.order(kind, 'POST', 'uploadType', after=1)
  files.pipe_file(f'{bucket}/one', b'1')
  with pytest.raises(OSError) as error:  # noqa: PT011
    files.pipe_file(f'{bucket}/one', b'2')
  assert raised in f'{type(error.value).__name__} {error.value}'
  assert cloud.store.get(bucket, 'one', {}).data == b'1'


def test_a_hanging_answer_comes_late(cloud, bucket, files):
  cloud.store.put(bucket, 'one', b'1234', {})
  cloud.faults.order('hang', 'GET', 'alt=media', seconds=0.3)
  assert files.cat_file(f'{bucket}/one') == b'1234'
  assert cloud.faults.requests('GET', 'alt=media')[0].fault == 'hang'


def test_orders_come_over_http_too(cloud, bucket):
  import requests

  order = {'kind': 403, 'method': 'GET', 'path': f'/b/{bucket}$', 'times': 1}
  assert requests.post(f'{cloud.url}/faults', json=order, timeout=10).ok
  assert [requests.get(f'{cloud.url}/storage/v1/b/{bucket}', timeout=10).status_code for _ in range(2)] == [403, 200]
  seen = requests.get(f'{cloud.url}/requests', timeout=10).json()
  assert [(request['status'], request['fault']) for request in seen] == [(403, 403), (200, None)]
  requests.delete(f'{cloud.url}/faults', timeout=10)
  assert cloud.faults.requests() == []


def test_what_it_does_not_know_is_said(cloud, bucket):
  import requests

  answer = requests.patch(f'{cloud.url}/storage/v1/b/{bucket}/o/one', json={}, timeout=10)
  assert (answer.status_code, answer.json()['error']['errors'][0]['reason']) == (501, 'notImplemented')
  with pytest.raises(ValueError, match="'kind'|kind="):
    orders.Fault('slow')


def test_it_runs_by_itself():
  command = [sys.executable, '-m', 'cloud_storage.server', 'bucket']
  folder = pathlib.Path(__file__).parents[1]
  with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
    line = process.stdout.readline()
    process.terminate()
  assert line.startswith('export STORAGE_EMULATOR_HOST=http://127.0.0.1:')


@pytest.mark.parametrize('remembers', [True, False])
def test_gcsfs_remembers_listings_unless_told_not_to(cloud, bucket, remembers):
  from gcsfs.core import GCSFileSystem

  files = GCSFileSystem(token='anon', use_listings_cache=remembers, skip_instance_cache=True)
  cloud.store.put(bucket, 'run/5/a', b'', {})
  assert files.ls(f'{bucket}/run/5') == [f'{bucket}/run/5/a']
  cloud.store.put(bucket, 'run/5/b', b'', {})  # as TensorStore does, or another process
  assert files.exists(f'{bucket}/run/5/b') is not remembers
