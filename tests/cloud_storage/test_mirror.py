"""Copies in a bucket of a folder that grows."""

import importlib.util

import pytest
from cloud_storage.commands import wait_for

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import places
from cmpe_jax.runtime.mirror import Mirror

pytestmark = pytest.mark.skipif(importlib.util.find_spec('gcsfs') is None, reason='gcsfs is not installed')


UPLOAD = 'metrics.*uploadType='


def uploads(cloud):
  return cloud.faults.requests('POST', UPLOAD)


def test_what_comes_while_a_copy_is_under_way_is_sent_after_it(cloud, bucket, path, tmp_path):
  """Else the bucket would lack lines of a checkpoint that follows, if the machine is lost then."""
  (tmp_path / 'metrics.jsonl').write_text('1\n')
  cloud.faults.order('hang', 'POST', 'metrics', seconds=1.0)
  mirror = Mirror(tmp_path, path)
  mirror.send()
  wait_for(cloud, UPLOAD)
  (tmp_path / 'metrics.jsonl').write_text('1\n2\n')
  mirror.send()
  (tmp_path / 'metrics.jsonl').write_text('1\n2\n3\n')
  mirror.send()
  mirror.wait()
  assert cloud.store.get(bucket, 'run/metrics.jsonl', {}).data == b'1\n2\n3\n'
  mirror.close()
  assert len(uploads(cloud)) == 2  # the two that waited were one


def test_a_refusal_is_raised_by_the_next_call(cloud, bucket, path, tmp_path):
  (tmp_path / 'metrics.jsonl').write_text('1\n')
  cloud.faults.deny(bucket, 'storage.objects.create')
  mirror = Mirror(tmp_path, path)
  mirror.send()
  mirror.wait()
  assert uploads(cloud)[-1].status == 403
  with pytest.raises(OSError, match='storage.objects.create') as raised:
    mirror.send()
  assert isinstance(places.explain(raised.value), UserError)
  cloud.faults.deny(bucket)
  mirror.close()
  assert cloud.store.get(bucket, 'run/metrics.jsonl', {}).data == b'1\n'
