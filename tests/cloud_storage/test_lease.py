"""A lease whose storage fails twice in a row, as at the end of an outage."""

import importlib.util
import threading
import time

import pytest

from cmpe_jax.runtime import lock

pytestmark = pytest.mark.skipif(importlib.util.find_spec('gcsfs') is None, reason='gcsfs is not installed')


def wait_until(true, seconds=20.0):
  end = time.monotonic() + seconds
  while not true():
    assert time.monotonic() < end
    time.sleep(0.05)


def test_a_renewal_whose_answer_is_lost_and_whose_question_is_refused_is_tried_again(
  cloud, bucket, blobs, path, monkeypatch, capfd
):
  monkeypatch.setattr(lock, 'RENEWAL', 0.2)
  lease = lock._Lease(blobs, 'run/.lease')
  lease.take(path)

  def generation():
    return cloud.store.get(bucket, 'run/.lease', {}).generation

  taken = generation()
  cloud.faults.order('lost', 'POST', 'uploadType=multipart')
  cloud.faults.deny(bucket, 'storage.objects.get')
  ended = threading.Event()
  thread = threading.Thread(target=lease.renew, args=(ended,))
  thread.start()
  try:
    said = []
    wait_until(lambda: said.append(capfd.readouterr().err) or 'could not be renewed' in ''.join(said))
    assert 'it is tried again' in ''.join(said)
    lost = generation()
    assert lost != taken  # it was written, only the answer was lost
    cloud.faults.deny(bucket)
    wait_until(lambda: generation() != lost)
  finally:
    ended.set()
    thread.join()
  lease.release()  # raises if it is not known to be ours
