"""The stand-in for Cloud Storage, asked by the clients that training uses."""

import importlib.util
import os
import subprocess
import sys

import pytest
from cloud_storage import server as servers

pytestmark = pytest.mark.skipif(importlib.util.find_spec('gcsfs') is None, reason='gcsfs is not installed')

CLIENTS = """
import socket

def guarded(self, address, connect=socket.socket.connect):
  assert not isinstance(address, tuple) or address[0] == '127.0.0.1', address
  return connect(self, address)

socket.socket.connect = guarded
import tensorstore
from etils import epath
from google.cloud import storage

path = epath.Path('gs://bucket/folder/file')
path.write_text('text')
store = tensorstore.KvStore.open({'driver': 'gcs', 'bucket': 'bucket', 'path': 'folder/'}).result()
assert store.read('file').result().value == b'text'
assert storage.Client().get_bucket('bucket').blob('folder/file').download_as_bytes() == b'text'
"""


def test_variables_are_all_that_the_clients_need():
  with servers.Server('bucket') as server:
    env = os.environ | server.environment()
    subprocess.run([sys.executable, '-c', CLIENTS], env=env, check=True, timeout=120)
    asked = server.faults.requests()
  agents = {request.agent.split('/')[0]: request.token for request in asked}
  assert agents == {'python-gcsfs': '', 'tensorstore': 'Bearer token', 'gcloud-python': ''}
  assert all(request.status < 500 for request in asked)


def test_gcsfs_writes_reads_lists_and_removes(bucket, files):
  files.pipe_file(f'{bucket}/a/one', b'1\r')
  with files.open(f'{bucket}/a/b/two', 'wb', block_size=2**18) as file:
    file.write(bytes(range(256)) * 4096)  # in pieces
  assert files.ls(f'{bucket}/a') == [f'{bucket}/a/b', f'{bucket}/a/one']
  assert files.find(bucket) == [f'{bucket}/a/b/two', f'{bucket}/a/one']
  assert files.cat_file(f'{bucket}/a/one') == b'1\r'
  assert files.cat_file(f'{bucket}/a/b/two', 1000, 1004) == bytes([232, 233, 234, 235])
  assert files.info(f'{bucket}/a/b/two')['size'] == 2**20
  with pytest.raises(FileExistsError):
    files.pipe_file(f'{bucket}/a/one', b'2', mode='create')
  files.rm(f'{bucket}/a', recursive=True)
  assert not files.exists(f'{bucket}/a')
  with pytest.raises(FileNotFoundError):
    files.cat_file(f'{bucket}/a/one')


def test_long_listings_have_pages_and_long_removals_batches(cloud, bucket, files):
  for number in range(1205):
    cloud.store.put(bucket, f'many/{number:04}/x', b'', {})
  assert len(files.ls(f'{bucket}/many')) == len(files.find(f'{bucket}/many')) == 1205
  files.rm(f'{bucket}/many', recursive=True)
  assert (
    len(cloud.faults.requests('POST', '^/batch')) == 25
  )  # objects and the folders that they seem to lie in, a hundred at a time
  assert cloud.store.list(bucket, {}) == {'kind': 'storage#objects'}


def test_listing_by_offset(cloud, bucket):
  for name in ('a/1', 'a/2', 'b', 'c/3'):
    cloud.store.put(bucket, name, b'', {})
  found = cloud.store.list(bucket, {'delimiter': '/', 'startOffset': 'a/2', 'endOffset': 'c/3', 'maxResults': '1'})
  assert found['prefixes'] == ['a/']
  assert 'items' not in found
  more = cloud.store.list(bucket, {'delimiter': '/', 'pageToken': found['nextPageToken']})
  assert ([item['name'] for item in more['items']], more['prefixes']) == (['b'], ['c/'])


def test_conditions(cloud, bucket, blobs, values):
  from google.api_core import exceptions

  blob = blobs.blob('one')
  blob.upload_from_string('1', if_generation_match=0)
  first = blob.generation
  with pytest.raises(exceptions.PreconditionFailed):
    blobs.blob('one').upload_from_string('2', if_generation_match=0)
  blob.upload_from_string('2', if_generation_match=first)
  with pytest.raises(exceptions.PreconditionFailed):
    blobs.blob('one').delete(if_generation_match=first)
  assert blob.download_as_bytes() == b'2'
  stamp = values.write('x', b'1').result()
  assert values.write('x', b'2', if_equal=stamp.generation).result().generation != b''
  values.write('x', b'3', if_equal=stamp.generation).result()
  assert values.read('x').result().value == b'2'
  assert cloud.faults.requests('POST', 'name=values/x.*ifGenerationMatch')[-1].status == 412
  assert values.read('x', if_not_equal=values.read('x').result().stamp.generation).result().state == 'unspecified'
  assert cloud.faults.requests('GET', 'values/x.*ifGenerationNotMatch')[-1].status == 304


def test_tensorstore_lists_and_removes_ranges(values):
  import tensorstore

  for key in ('a', 'b', 'c'):
    values.write(key, b'hello').result()
  assert values.list().result() == [b'a', b'b', b'c']
  values.delete_range(tensorstore.KvStore.KeyRange('a', 'c')).result()
  assert values.list().result() == [b'c']
  assert values.read('a').result().state == 'missing'


def test_google_cloud_storage_copies_composes_and_sends_in_pieces(blobs):
  blobs.blob('one').upload_from_string('1')
  blobs.copy_blob(blobs.blob('one'), blobs, 'two')
  blobs.blob('three').rewrite(blobs.blob('two'))
  blobs.blob('all').compose([blobs.blob('one'), blobs.blob('three')])
  assert blobs.blob('all').download_as_bytes() == b'11'
  large = blobs.blob('large', chunk_size=2**18)
  large.upload_from_string(b'x' * 600_000)
  assert large.download_as_bytes(start=599_998) == b'xx'


def test_a_bucket_has_no_folders(path):
  path.mkdir(parents=True, exist_ok=True)
  assert not path.exists()
  with pytest.raises(FileNotFoundError):
    list(path.iterdir())
  (path / 'deep/file').write_text('1')
  assert path.is_dir()
  assert [child.name for child in path.iterdir()] == ['deep']
  (path / 'deep/file').unlink()
  assert not path.exists()
  with pytest.raises(FileNotFoundError):
    (path / 'deep/file').unlink()
  with pytest.raises(FileNotFoundError):
    path.rmtree()


def test_epath_moves_and_removes(path):
  (path / 'new').write_text('1')
  (path / 'new').replace(path / 'file')
  (path / 'new').write_text('2')
  (path / 'new').replace(path / 'file')
  assert (path / 'file').read_text() == '2'
  (path / 'file').rename(path / 'other')
  assert [child.name for child in path.iterdir()] == ['other']
  with pytest.raises(FileExistsError):
    (path / 'other').rename(path / 'other')
  (path / 'a/b/c').write_bytes(bytes(6 * 2**20))
  assert (path / 'a/b/c').stat().length == 6 * 2**20
  path.rmtree()
  assert not path.exists()
