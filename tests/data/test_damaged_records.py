"""Files of a prepared dataset that were changed: each is named with the command that helps, or no matter."""

import pathlib
import shutil

import damage
import numpy as np
import pytest

from cmpe_jax.data import records
from cmpe_jax.data.datasets import DATASETS
from cmpe_jax.data.preparation import install
from cmpe_jax.data.preparation.install import Request
from cmpe_jax.errors import UserError


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """A prepared dataset, to be copied."""
  root = tmp_path_factory.mktemp('prepared')
  install.prepare(DATASETS['digits'], root, Request())
  return root


@pytest.fixture
def copy(prepared, tmp_path):
  """copy() -> a fresh data_dir. Times are kept, as `cp -a` and `rsync -a` keep them."""

  def make() -> pathlib.Path:
    shutil.rmtree(tmp_path / 'data', ignore_errors=True)
    return shutil.copytree(prepared, tmp_path / 'data')

  return make


def values(root, config_for, is_resident):
  """Everything that training and evaluation take from the digits: names, images or files, and labels."""
  content = DATASETS['digits'].describe(config_for(root)).content
  found = [DATASETS['digits'].class_names(root)]
  for split in ('train', 'test'):
    if is_resident:
      found += content.arrays(split)
    else:
      examples = content.examples(split)
      found += zip(*(examples.read(position)[:2] for position in range(len(examples))), strict=True)
  return found


def same(one, two):
  return len(one) == len(two) and all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize('count', [8, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize('is_resident', [True, False])
def test_random_damage_is_named_or_changes_nothing(copy, config_for, count, is_resident):
  """Bits turned over, ends cut off, bytes put in, files removed; with and without the kept arrays."""
  generator = np.random.default_rng(count)
  before = values(copy(), config_for, is_resident)
  messages = []
  for trial in range(count):
    root = copy()
    (directory,) = root.glob('digits/*')
    if trial % 2:
      for path in directory.glob('resident-*'):
        path.unlink()
    files = sorted(directory.iterdir())
    path = files[trial // 2 % len(files)]
    if generator.random() < 0.2:
      path.unlink()
    else:
      path.write_bytes(damage.damaged(path.read_bytes(), generator))
    try:
      assert same(values(root, config_for, is_resident), before), path
    except UserError as error:
      messages.append(str(error))
  assert len(messages) >= count // 4
  for message in messages:
    assert 'digits/1.0.0' in message
    assert 'python -m cmpe_jax.data.prepare --dataset=digits --data_dir=' in message
    assert 'Remove ' in message


def test_kept_arrays_are_used_only_if_they_are_what_was_written(copy, monkeypatch, caplog):
  (directory,) = copy().glob('digits/*')
  before = records.arrays(directory, 'train')
  assert not caplog.records
  images, marks = directory / 'resident-train-images.npy', directory / 'resident-train.json'
  whole, changed = images.read_bytes(), bytearray(images.read_bytes())
  changed[5000:5064] = bytes(64)
  for content in (b'', b'rubbish', whole[:10_000], bytes(changed)):
    images.write_bytes(content)
    assert same(records.arrays(directory, 'train'), before)
    assert images.read_bytes() == whole
    assert 'decoded again' in caplog.records[-1].message
  np.save(directory / 'resident-train-labels.npy', before[1][::-1])
  assert same(records.arrays(directory, 'train'), before)
  marks.unlink()  # as version 1.0 left them
  assert same(records.arrays(directory, 'train'), before)
  assert 'have no checksum yet' in caplog.records[-1].message
  monkeypatch.setattr(records, '_decode', None)
  assert same(records.arrays(directory, 'train'), before)
  next(directory.glob('digits-train*')).touch()  # other records: the arrays are not believed
  with pytest.raises(TypeError):
    records.arrays(directory, 'train')


def test_a_directory_that_cannot_be_written_is_read_all_the_same(copy, monkeypatch, caplog):
  (directory,) = copy().glob('digits/*')
  before = records.arrays(directory, 'test')
  (directory / 'resident-test.json').unlink()

  def refuse(*args, **kwargs):
    raise OSError(30, 'Read-only file system')

  monkeypatch.setattr(records.kept.tempfile, 'mkstemp', refuse)
  assert same(records.arrays(directory, 'test'), before)
  assert 'not kept' in caplog.records[-1].message


def test_wrong_lengths_and_missing_files_are_named(copy):
  (directory,) = copy().glob('digits/*')
  info = directory / 'dataset_info.json'
  info.write_text(info.read_text().replace('"1433"', '"1432"'))
  for read in (records.arrays, lambda place, split: records.Records(place, [split])):
    with pytest.raises(UserError, match=r'digits-train\.array_record\S+ holds 1433 examples, .* says 1432'):
      read(directory, 'train')
  info.unlink()
  with pytest.raises(UserError, match='dataset_info.json is missing. Remove .* and run'):
    install.prepare(DATASETS['digits'], directory.parent.parent, Request())


def test_an_image_that_is_none_is_named(copy, monkeypatch):
  (directory,) = copy().glob('digits/*')
  monkeypatch.setattr(records.image.Image, 'open', lambda file: 1 / 0)
  for path in directory.glob('resident-*'):
    path.unlink()
  with pytest.raises(UserError, match=r"'digits' is damaged: example 0 of split 'test' is not .*zero\)\. Remove"):
    records.arrays(directory, 'test')


def test_the_command_for_images_stored_smaller():
  place = pathlib.Path('/data/imagenet2012_256/5.1.0')
  assert records.damage.cure(place).endswith('--dataset=imagenet2012 --shorter_side=256 --data_dir=/data')
