"""The clients that training uses, sent to the stand-in for Cloud Storage."""

import uuid

import pytest
from cloud_storage import server as servers
from cloud_storage.commands import Commands


@pytest.fixture(scope='module')
def cloud():
  """The service, and this process's clients sent to it, whatever they had been set to before."""
  with servers.Server() as server, pytest.MonkeyPatch.context() as patch:
    for name, value in server.environment().items():
      patch.setenv(name, value)
    from etils.epath import backend, gpath
    from fsspec import config
    from fsspec.registry import _registry as kinds
    from gcsfs.core import GCSFileSystem

    patch.setitem(config.conf, 'gcs', {'token': 'anon'})
    patch.setitem(kinds, 'gcs', GCSFileSystem)
    patch.setattr(gpath, '_is_tf_installed', lambda: False)
    backend.fsspec_backend._get_filesystem.cache_clear()
    yield server
  backend.fsspec_backend._get_filesystem.cache_clear()


@pytest.fixture
def bucket(cloud):
  """The name of a new bucket, with nothing ordered."""
  name = f'bucket-{uuid.uuid4().hex}'
  cloud.store.make_bucket(name)
  cloud.faults.clear()
  return name


@pytest.fixture
def path(bucket):
  from etils import epath

  return epath.Path(f'gs://{bucket}/run')


@pytest.fixture
def files(cloud):
  from gcsfs.core import GCSFileSystem

  return GCSFileSystem(token='anon', use_listings_cache=False)


@pytest.fixture
def blobs(bucket):
  from google.cloud import storage

  return storage.Client().bucket(bucket)


@pytest.fixture
def values(bucket):
  import tensorstore

  return tensorstore.KvStore.open({'driver': 'gcs', 'bucket': bucket, 'path': 'values/'}).result()


@pytest.fixture
def commands(tmp_path):
  """The package's commands, each test with a service of its own."""
  with servers.Server('bucket') as server:
    yield Commands(server, tmp_path)
