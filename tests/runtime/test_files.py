"""Files that several processes write."""

import json
import multiprocessing
import os

import pytest

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import files


def count(path, times):
  for _ in range(times):
    with files.alone(path):
      files.replace(path, json.dumps(json.loads(path.read_text()) + 1))


def test_what_is_read_and_written_alone_is_lost_by_nobody(tmp_path):
  path = tmp_path / 'count.json'
  files.replace(path, '0')
  context = multiprocessing.get_context('spawn')
  others = [context.Process(target=count, args=(path, 50)) for _ in range(3)]
  for other in others:
    other.start()
  for other in others:
    other.join(60)
  assert path.read_text() == '150'
  assert os.listdir(tmp_path) == ['count.json']


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path):
  (tmp_path / 'folder' / 'inside').mkdir(parents=True)
  with pytest.raises(UserError, match=r'folder cannot be written \(.*directory.*\): give another --json'):
    files.write(tmp_path / 'folder', 'text', 'json')
  assert os.listdir(tmp_path) == ['folder']
