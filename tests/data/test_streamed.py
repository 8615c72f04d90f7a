"""Datasets that are read while training, with a small prepared imagenet2012 as the example."""

import functools
import io
import multiprocessing
import pathlib
import tarfile
import threading
import time

import numpy as np
import pytest
from PIL import Image

from cmpe_jax.data import reader, records, streamed
from cmpe_jax.data.datasets import DATASETS
from cmpe_jax.data.preparation import install
from cmpe_jax.data.preparation.install import Request
from cmpe_jax.runtime import mesh as meshes


def colour(number: int) -> tuple[int, int, int]:
  return (10 * number, 250 - 10 * number, 5 * number)


@pytest.fixture
def photos(tmp_path) -> pathlib.Path:
  """A prepared imagenet2012 of 12 + 5 one-coloured photos: any crop tells which one it is."""
  archives = tmp_path / 'archives'
  archives.mkdir()

  def add(tar, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))

  def photo(number):
    file = io.BytesIO()
    Image.new('RGB', (60 + number, 50), colour(number)).save(file, 'JPEG', quality=100, subsampling=0)
    return file.getvalue()

  with tarfile.open(archives / 'ILSVRC2012_img_train.tar', 'w') as outer:
    for group, synset in enumerate(('n01440764', 'n01443537', 'n01484850', 'n01491361')):
      inner_file = io.BytesIO()
      with tarfile.open(fileobj=inner_file, mode='w') as inner:
        for number in range(3 * group, 3 * group + 3):
          add(inner, f'{synset}_{number}.JPEG', photo(number))
      add(outer, f'{synset}.tar', inner_file.getvalue())
  with tarfile.open(archives / 'ILSVRC2012_img_val.tar', 'w') as tar:
    for number in range(5):
      add(tar, f'ILSVRC2012_val_{number + 1:08d}.JPEG', photo(number))
  install.prepare(DATASETS['imagenet2012'], tmp_path / 'data', Request(folder=archives, partial=True))
  return tmp_path / 'data'


@pytest.fixture
def open_photos(photos, open_split):
  return functools.partial(open_split, photos, dataset='imagenet2012', image_size=32, batch_size=8)


def test_streamed_batches(open_photos):
  """Image, label and index of a row belong together; an epoch is complete; threads and devices change nothing."""
  source = open_photos(input_threads=1)
  assert (source.num_examples, source.resident) == (12, {})
  calls = [(0, 1, 32), (1, 2, 32), (3, 3, 32)]
  batches = list(source.train(calls))
  assert [batch['image'].shape for batch in batches] == [(count, 8, 32, 32, 3) for _, count, _ in calls]
  images = np.concatenate([np.asarray(batch['image']).reshape(-1, 32, 32, 3) for batch in batches])
  labels, indices = (
    np.concatenate([np.asarray(batch[key]).ravel() for batch in batches]) for key in ('label', 'index')
  )
  numbers = [int(round(float(image[..., 0].mean()) / 10)) for image in images]
  for image, label, number in zip(images, labels, numbers, strict=True):
    np.testing.assert_allclose(image.mean((0, 1)), colour(number), atol=3)
    assert label == number // 3
  for epoch in range(4):
    assert sorted(numbers[12 * epoch : 12 * epoch + 12]) == list(range(12))
    assert sorted(indices[12 * epoch : 12 * epoch + 12].tolist()) == list(range(12))
  for changes in ({'input_threads': 4}, {'devices': 4}, {'devices': 8}):
    for batch, again in zip(batches, open_photos(**changes).train(calls), strict=True):
      for key in batch:
        np.testing.assert_array_equal(batch[key], again[key])
  single = list(open_photos().train([(step, 1, 32) for step in range(6)]))
  np.testing.assert_array_equal(
    np.concatenate([np.asarray(batch['image']).reshape(-1, 32, 32, 3) for batch in single]), images
  )


def test_streamed_evaluation(open_photos):
  source = open_photos('test', devices=4)
  batches = list(source.evaluate(4))
  assert [np.asarray(batch['index']).tolist() for batch in batches] == [[0, 1, 2, 3], [4, -1, -1, -1]]
  numbers = [int(round(float(image[..., 0].mean()) / 10)) for batch in batches for image in np.asarray(batch['image'])][
    :5
  ]
  assert sorted(numbers) == list(range(5))
  assert np.asarray(batches[1]['mask']).tolist() == [True, False, False, False]
  assert (np.asarray(batches[1]['image'])[1:] == 0).all()


def test_streamed_validation_part(open_photos):
  parts = [open_photos(split, validation=0.25) for split in ('train', 'validation')]
  assert [part.num_examples for part in parts] == [9, 3]
  numbers = [
    int(round(float(image[..., 0].mean()) / 10))
    for part in parts
    for batch in part.evaluate(4)
    for image, mask in zip(np.asarray(batch['image']), batch['mask'], strict=True)
    if mask
  ]
  assert sorted(numbers) == list(range(12))


def test_each_call_has_its_own_side_and_its_examples_follow_from_the_step(open_photos):
  calls = [(0, 1, 24), (1, 2, 24), (3, 1, 40), (4, 2, 40)]
  grown = list(open_photos().train(calls))
  assert [batch['image'].shape for batch in grown] == [(count, 8, side, side, 3) for _, count, side in calls]
  for batch, same in zip(grown, open_photos().train([(*call[:2], 32) for call in calls]), strict=True):
    for key in ('index', 'label', 'mask'):
      np.testing.assert_array_equal(batch[key], same[key])
  (later,) = open_photos(devices=4).train([(4, 2, 40)])
  np.testing.assert_array_equal(later['image'], grown[-1]['image'])
  (evaluated, _) = open_photos('test').evaluate(4)
  assert evaluated['image'].shape == (4, 32, 32, 3)


def test_any_step_at_once_and_close(open_photos):
  source = open_photos()
  start = time.perf_counter()
  batches = source.train((step, 1, 32) for step in range(10**6, 10**6 + 500))
  next(batches)
  assert time.perf_counter() - start < 10
  assert any('grain' in thread.name for thread in threading.enumerate())
  source.close()
  deadline = time.perf_counter() + 10
  while any('grain' in thread.name for thread in threading.enumerate()) and time.perf_counter() < deadline:
    time.sleep(0.05)
  assert not any('grain' in thread.name for thread in threading.enumerate())


def test_each_process_reads_only_its_rows(open_photos, small_mesh):
  """Four devices as two processes would hold them: each half is read alone and is that half of the global batch."""
  source = open_photos(devices=4)
  (whole,) = source.train([(3, 2, 32)])
  read = []

  class Counted(records.Records):
    def read(self, position):
      read.append(position)
      return super().read(position)

  examples = Counted(source._examples._directory, ['train'])
  for rows in (np.arange(4), np.arange(4, 8)):
    part = reader.Reader(examples, 0, 32, True, 8, rows).train((3, 2, 32))
    for key, value in part.items():
      np.testing.assert_array_equal(value, np.asarray(whole[key])[:, rows])
  assert len(read) == 16
  sharding = meshes.batch_sharding(small_mesh(4))
  np.testing.assert_array_equal(streamed.own_rows(sharding, 8), np.arange(8))


def test_worker_processes(open_photos):
  """The same batches, of two sizes, from two processes, which end when the source is closed."""
  calls = [(step, 1, 32 + 16 * (step > 2)) for step in range(5)]
  expected = list(open_photos().train(calls))
  source = open_photos(input_processes=2)
  for batch, reference in zip(source.train(calls), expected, strict=True):
    np.testing.assert_array_equal(batch['image'], reference['image'])
    np.testing.assert_array_equal(batch['index'], reference['index'])
  source.close()
  deadline = time.perf_counter() + 20
  while multiprocessing.active_children() and time.perf_counter() < deadline:
    time.sleep(0.1)
  assert not multiprocessing.active_children()
