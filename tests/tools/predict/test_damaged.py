"""Damaged files among others: each is predicted or named, and costs nobody else's prediction."""

import dataclasses

import damage
import numpy as np
import pytest
from PIL import Image

from cmpe_jax.data import image
from cmpe_jax.data.datasets import folder
from cmpe_jax.data.reader import Reader
from cmpe_jax.errors import UserError
from cmpe_jax.tools.predict import command as predict


@pytest.fixture(params=[60, pytest.param(2000, marks=pytest.mark.slow)])
def files(request, tmp_path):
  """Damaged images."""
  paths = []
  for number, (suffix, data) in enumerate(damage.images(request.param)):
    paths.append(tmp_path / f'{number}{suffix}')
    paths[-1].write_bytes(data)
  return paths


@pytest.mark.parametrize('is_cropped', [False, True])
def test_every_damaged_file_is_predicted_or_named(files, random_run, is_cropped):
  run = random_run()
  if is_cropped:
    run = dataclasses.replace(run, dataset=dataclasses.replace(run.dataset, augmentation='random_resized'))
  results, skipped = predict.predict(run, files, 1, 32)
  assert sorted([result['file'] for result in results] + list(skipped)) == sorted(map(str, files))
  assert len(skipped) > len(files) / 4
  assert len(results) > len(files) / 10
  for name, reason in skipped.items():
    assert name in reason
    assert 'is not a readable image' in reason


@pytest.mark.parametrize('is_cropped', [False, True])
def test_every_damaged_file_of_a_class_folder_is_read_or_named(files, is_cropped):
  said = {}
  for path in files:
    examples = folder.Files([str(path)], np.zeros(1, np.int32))
    try:
      if is_cropped:
        Reader(examples, 0, 16, True, 1, np.arange(1)).train((0, 1, 16))
      else:
        folder.Content(folder.Listing(('a', 'b'), {'train': examples}), 16).arrays('train')
    except UserError as error:
      said[str(path)] = str(error)
  assert all(path in message for path, message in said.items())
  assert len(said) > len(files) / 4


def test_files_that_ended_predictions(tmp_path, random_run):
  """Cut off after the first frame; 200 megapixels; and one that is whole."""
  for kind in ('GIF', 'TIFF'):
    data = damage.whole(kind, is_moving=True)
    (tmp_path / f'cut.{kind.lower()}').write_bytes(data[: len(data) * 3 // 4])
  Image.new('1', (20_000, 10_000)).save(tmp_path / 'large.png')
  (tmp_path / 'whole.png').write_bytes(damage.whole('PNG'))
  results, skipped = predict.predict(random_run(), predict.find([str(tmp_path)]), 1)
  assert 'whole.png' in [result['file'].rpartition('/')[2] for result in results]
  assert len(results) + len(skipped) == 4
  assert 'more than the 178,956,970 pixels' in skipped[str(tmp_path / 'large.png')]


def test_what_a_codec_raises_is_told_with_the_name(monkeypatch):
  def fail(file):
    raise MemoryError

  monkeypatch.setattr(image.Image, 'open', fail)
  for read in (image.decode, image.facts):
    with pytest.raises(UserError, match=r'photo\.jpg is not a readable image \(MemoryError\)'):
      read(b'', 'photo.jpg')
