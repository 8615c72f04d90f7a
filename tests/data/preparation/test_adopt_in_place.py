"""A TFRecord preparation where the result belongs: TFDS's own default, in its own default place."""

import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cmpe_jax.data import records
from cmpe_jax.data.datasets import DATASETS
from cmpe_jax.data.datasets.digits import Digits
from cmpe_jax.data.preparation import install, rewrite
from cmpe_jax.data.preparation.install import Request
from cmpe_jax.errors import UserError


@pytest.fixture
def old(tmp_path):
  """The directory, and its images and labels in their order as TFDS reads them."""
  builder = Digits(data_dir=tmp_path, file_format='tfrecord')
  builder.download_and_prepare()
  examples = list(tfds.as_numpy(builder.as_dataset('test')))
  return builder.data_path, [np.stack([example[key] for example in examples]) for key in ('image', 'label')]


def advised(root):
  """The command that an error advises, as words."""
  with pytest.raises(UserError, match='prepared as .tfrecord') as caught:
    records.open_source(records.find('digits', root), 'test')
  return shlex.split(str(caught.value).partition('Rewrite it: python ')[2])


def test_the_command_that_is_advised_works(old, tmp_path):
  directory, (images, labels) = old
  with pytest.raises(UserError, match='prepared as .tfrecord.*--adopt='):
    install.prepare(DATASETS['digits'], tmp_path, Request())
  done = subprocess.run([sys.executable, *advised(tmp_path)], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert '1,433 train, 364 test' in done.stdout
  found = records.arrays(records.find('digits', tmp_path), 'test')
  np.testing.assert_array_equal(found[0], images)
  np.testing.assert_array_equal(found[1], labels)
  assert not list(directory.glob('*tfrecord*'))
  assert not [*tmp_path.glob('incomplete*'), *tmp_path.glob('replaced*')]


def test_the_old_one_stays_until_the_check_has_passed(old, tmp_path, monkeypatch):
  directory, _ = old
  files = sorted(directory.iterdir())
  whole = files[-1].read_bytes(), files
  monkeypatch.setattr(rewrite, 'shrink', lambda examples, side: list(examples)[:-1])
  with pytest.raises(UserError, match='1,432 examples in split .train. instead of 1,433'):
    install.prepare(DATASETS['digits'], tmp_path, Request(adopt=directory))
  assert (files[-1].read_bytes(), sorted(directory.iterdir())) == whole
  assert advised(tmp_path)


@pytest.mark.parametrize('done', [0, 1, 2])
def test_killed_between_the_renames(old, tmp_path, monkeypatch, done):
  """The old one is put back, or the new one is there."""
  directory, (images, _) = old
  real, calls = os.rename, []

  def rename(source, target):
    if len(calls) == done:
      raise KeyboardInterrupt
    calls.append(source)
    real(source, target)

  if done < 2:
    monkeypatch.setattr(os, 'rename', rename)
    with pytest.raises(KeyboardInterrupt):
      install.prepare(DATASETS['digits'], tmp_path, Request(adopt=directory))
    monkeypatch.setattr(os, 'rename', real)
  found = install.prepare(DATASETS['digits'], tmp_path, Request(adopt=directory))
  np.testing.assert_array_equal(records.arrays(found, 'test')[0], images)
  assert not (tmp_path / 'replaced.digits').exists()
