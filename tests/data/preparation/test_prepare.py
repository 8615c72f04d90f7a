"""Archives in the upstream formats become ArrayRecord by TFDS's own builders; what is broken never looks finished."""

import dataclasses
import io
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds
from PIL import ExifTags, Image

from cmpe_jax.data import image, records
from cmpe_jax.data.datasets import DATASETS
from cmpe_jax.data.preparation import archives, install, rewrite
from cmpe_jax.data.preparation.install import Request
from cmpe_jax.errors import UserError


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
  def refuse(*args, **kwargs):
    raise requests.ConnectionError('no route')

  monkeypatch.setattr(requests, 'head', refuse)


def same_examples(stored: records.Arrays, written: tuple[np.ndarray, np.ndarray]) -> bool:
  """Whether both hold the same (image, label) pairs, in any order: TFDS shuffles."""
  pairs = [
    sorted((image.tobytes(), int(label)) for image, label in zip(*arrays, strict=True)) for arrays in (stored, written)
  ]
  return pairs[0] == pairs[1]


@pytest.mark.parametrize('name', ['cifar10', 'cifar100', 'svhn_cropped'])
def test_archives_on_disk(name, request, tmp_path):
  folder, written = request.getfixturevalue({'svhn_cropped': 'svhn'}.get(name, name))
  directory = install.prepare(DATASETS[name], tmp_path / 'data', Request(folder=folder, partial=True))
  assert records.counts(directory) == {split: len(labels) for split, (_, labels) in written.items()}
  for split, arrays in written.items():
    assert same_examples(records.arrays(directory, split), arrays)
  assert (directory / 'resident-train-images.npy').is_file()
  assert not list((tmp_path / 'data').glob('incomplete*'))
  assert (
    DATASETS[name].class_names(tmp_path / 'data')[3]
    == {'cifar10': 'cat', 'cifar100': 'fine3', 'svhn_cropped': '3'}[name]
  )


def test_svhn_without_extra(svhn, tmp_path):
  folder, written = svhn
  (folder / 'extra_32x32.mat').unlink()
  directory = install.prepare(
    DATASETS['svhn_cropped'], tmp_path / 'data', Request(folder=folder, extra=False, partial=True)
  )
  assert records.counts(directory) == {'train': 20, 'test': 10}
  assert same_examples(records.arrays(directory, 'train'), written['train'])
  with pytest.raises(UserError, match="no split 'extra'.*svhn_extra=False"):
    records.arrays(directory, 'extra')


def test_published_archive_is_verified(cifar10, tmp_path, monkeypatch):
  """The mini archive stands for the published one; its numbers are then compared with the dataset's."""
  folder, _ = cifar10
  builder = tfds.builder_cls('cifar10')
  (url,) = builder.url_infos
  path = folder / 'cifar-10-binary.tar.gz'
  monkeypatch.setattr(builder, 'url_infos', {url: archives.checksums.compute_url_info(path)})
  with pytest.raises(UserError, match='50 examples in split .train. instead of 50,000'):
    install.prepare(DATASETS['cifar10'], tmp_path / 'data', Request(folder=folder))
  assert records.find('cifar10', tmp_path / 'data') is None

  small = dataclasses.replace(DATASETS['cifar10'], counts={'train': 50, 'test': 10})
  monkeypatch.setitem(DATASETS, 'cifar10', small)
  whole = path.read_bytes()
  path.write_bytes(whole[:-100])
  with pytest.raises(UserError, match=r"cifar-10-binary.tar.gz' is truncated: it has .* Fetch it again from https://"):
    install.prepare(DATASETS['cifar10'], tmp_path / 'data', Request(folder=folder))
  path.write_bytes(whole[:-100] + bytes(100))
  with pytest.raises(UserError, match='damaged'):
    install.prepare(DATASETS['cifar10'], tmp_path / 'data', Request(folder=folder))
  assert records.find('cifar10', tmp_path / 'data') is None
  path.write_bytes(whole)
  assert records.counts(install.prepare(DATASETS['cifar10'], tmp_path / 'data', Request(folder=folder))) == {
    'train': 50,
    'test': 10,
  }


def test_truncated_partial_archive(cifar10, tmp_path):
  folder, _ = cifar10
  path = folder / 'cifar-10-binary.tar.gz'
  path.write_bytes(path.read_bytes()[:50_000])
  with pytest.raises(UserError, match='an archive is damaged'):
    install.prepare(DATASETS['cifar10'], tmp_path / 'data', Request(folder=folder, partial=True))
  assert records.find('cifar10', tmp_path / 'data') is None


def test_truncated_mat(svhn, tmp_path):
  folder, _ = svhn
  path = folder / 'test_32x32.mat'
  path.write_bytes(path.read_bytes()[:5_000])
  with pytest.raises(UserError, match='an archive is damaged'):
    install.prepare(DATASETS['svhn_cropped'], tmp_path / 'data', Request(folder=folder, partial=True))


@pytest.mark.parametrize(
  ('name', 'file', 'where'),
  [
    ('cifar10', 'cifar-10-binary.tar.gz', 'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz'),
    ('svhn_cropped', 'extra_32x32.mat', 'http://ufldl.stanford.edu/housenumbers/extra_32x32.mat'),
    ('imagenet2012', 'ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar', 'https://image-net.org/'),
  ],
)
def test_no_archives_no_network(name, file, where, tmp_path):
  with pytest.raises(UserError) as caught:
    install.prepare(DATASETS[name], tmp_path, Request())
  for part in (file, where, str(tmp_path / 'downloads' / 'manual'), '--archives'):
    assert part in str(caught.value)
  with pytest.raises(UserError, match='not in'):
    install.prepare(DATASETS[name], tmp_path, Request(folder=tmp_path / 'empty'))


def test_imagenet_from_the_two_tars(imagenet, tmp_path):
  folder, files = imagenet
  directory = install.prepare(DATASETS['imagenet2012'], tmp_path / 'data', Request(folder=folder, partial=True))
  names = DATASETS['imagenet2012'].class_names(tmp_path / 'data')
  for split, written in files.items():
    source = records.open_source(directory, split)
    stored = {example['file_name'].decode(): example for example in source}
    assert {name: example['image'] for name, example in stored.items()} == written
    if split == 'train':
      assert all(names[example['label']] == name[:9] for name, example in stored.items())


def test_imagenet_stored_smaller(imagenet, tmp_path):
  folder, files = imagenet
  directory = install.prepare(
    DATASETS['imagenet2012'], tmp_path / 'data', Request(folder=folder, shorter_side=64, partial=True)
  )
  assert directory.parent.name == 'imagenet2012_64'
  for example in records.open_source(directory, 'validation'):
    width = Image.open(io.BytesIO(files['validation'][example['file_name'].decode()])).size[0]
    assert Image.open(io.BytesIO(example['image'])).size == (round(width * 64 / 70), 64)


def test_a_smaller_image_still_says_how_it_is_turned():
  def encoded(orientation):
    exif, file = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    Image.linear_gradient('L').resize((90, 60)).save(file, 'JPEG', exif=exif)
    return file.getvalue()

  for orientation in range(1, 9):
    small = rewrite.smaller(encoded(orientation), 'photo', 30)
    assert image.orientation(small, 'photo') == orientation
    assert image.decode(small, 'photo').shape == (30, 45, 3)
    assert image.decode(small, 'photo', upright=True).shape == ((30, 45, 3) if orientation < 5 else (45, 30, 3))


def test_adopts_tfrecord(imagenet, tmp_path):
  """TFDS prepares TFRecord; the rewritten ArrayRecord has the same examples in the same order."""
  folder, files = imagenet
  builder = tfds.builder('imagenet2012', data_dir=tmp_path / 'old')
  builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=folder))
  order = [example['file_name'] for example in tfds.as_numpy(builder.as_dataset('train'))]
  with pytest.raises(UserError, match='prepared as .tfrecord.*--adopt='):
    records.open_source(builder.data_path, 'train')
  directory = install.prepare(
    DATASETS['imagenet2012'], tmp_path / 'data', Request(adopt=builder.data_path, partial=True)
  )
  source = records.open_source(directory, 'train')
  assert [example['file_name'] for example in source] == order
  assert {example['file_name'].decode(): example['image'] for example in source} == files['train']
  small = install.prepare(
    DATASETS['imagenet2012'], tmp_path / 'data', Request(adopt=directory, shorter_side=64, partial=True)
  )
  assert [example['file_name'] for example in records.open_source(small, 'train')] == order

  path = pathlib.Path(builder.info.splits['train'].filepaths[0])
  path.write_bytes(path.read_bytes()[:-1000])
  with pytest.raises(UserError, match=r'after 11 records is missing, truncated or damaged \(.{1,150}\)\. Copy'):
    list(rewrite.read(tfds.builder_from_directory(builder.data_path), 'train'))
  with pytest.raises(UserError, match='not a prepared dataset'):
    install.prepare(DATASETS['imagenet2012'], tmp_path / 'other', Request(adopt=tmp_path, partial=True))


def test_killed_preparation_is_done_again(tmp_path):
  """A process that dies between writing and moving leaves no dataset, and the next one succeeds."""
  script = (
    'import os, pathlib; from cmpe_jax.data.datasets import DATASETS; from cmpe_jax.data.preparation import install; '
    'install.check = lambda *_: os._exit(9); '
    f'install.prepare(DATASETS["digits"], pathlib.Path({str(tmp_path)!r}), install.Request())'
  )
  assert subprocess.run([sys.executable, '-c', script], capture_output=True).returncode == 9
  assert (tmp_path / 'incomplete.digits').is_dir()
  assert records.find('digits', tmp_path) is None
  directory = install.prepare(DATASETS['digits'], tmp_path, Request())
  assert records.counts(directory) == {'train': 1433, 'test': 364}
  assert not (tmp_path / 'incomplete.digits').exists()


def test_tensorflow_missing(cifar10, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorflow', None)
  with pytest.raises(UserError, match='requirements-prepare.txt'):
    install.prepare(DATASETS['cifar10'], tmp_path / 'data', Request(folder=cifar10[0], partial=True))


def test_unwritable_data_dir(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='cannot be written'):
    install.prepare(DATASETS['digits'], tmp_path / 'file' / 'data', Request())


def test_command(tmp_path):
  command = [sys.executable, '-m', 'cmpe_jax.data.prepare', f'--data_dir={tmp_path}']
  done = subprocess.run([*command, '--dataset=digits'], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert '1,433 train, 364 test' in done.stdout
  wrong = subprocess.run([*command, '--dataset=mnist'], capture_output=True, text=True)
  assert wrong.returncode == 2
  assert 'cifar10' in wrong.stderr
