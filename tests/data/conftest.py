"""Small archives in the upstream formats, and the images that they hold."""

import io
import pathlib
import tarfile

import jax
import ml_collections
import numpy as np
import pytest
from PIL import Image

from cmpe_jax import config as configuration
from cmpe_jax.data import datasets, splits


@pytest.fixture
def config_for():
  """config_for(data_dir, **changes): a checked configuration."""

  def make(data_dir: pathlib.Path, **changes) -> ml_collections.ConfigDict:
    config = configuration.base()
    config.update({'data_dir': str(data_dir)} | changes)
    configuration.check(config)
    return config

  return make


@pytest.fixture
def small_mesh():
  """small_mesh(devices): the first so many devices."""

  def make(devices: int) -> jax.sharding.Mesh:
    return jax.make_mesh((devices,), ('data',), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:devices])

  return make


@pytest.fixture
def open_split(config_for, small_mesh):
  """open_split(data_dir, split, devices, **changes): a source."""

  def make(data_dir: pathlib.Path, split: str = 'train', devices: int = 1, **changes):
    config = config_for(data_dir, **changes)
    return splits.open_split(config, datasets.describe(config), split, small_mesh(devices))

  return make


def pixels(count: int, seed: int, height: int = 32, width: int = 32) -> np.ndarray:
  """Random images, uint8[count, height, width, 3]."""
  return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
  member = tarfile.TarInfo(name)
  member.size = len(data)
  tar.addfile(member, io.BytesIO(data))


def cifar_records(images: np.ndarray, *labels: np.ndarray) -> bytes:
  """Label bytes, then the planes of red, green and blue: the binary version of the archive."""
  planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
  return np.concatenate([np.stack(labels, 1).astype(np.uint8), planes], 1).tobytes()


def jpeg(image: np.ndarray, format: str = 'JPEG', mode: str = 'RGB', **options) -> bytes:
  file = io.BytesIO()
  Image.fromarray(image).convert(mode).save(file, format, **options)
  return file.getvalue()


@pytest.fixture
def cifar10(tmp_path: pathlib.Path) -> tuple[pathlib.Path, dict[str, tuple[np.ndarray, np.ndarray]]]:
  """The folder with cifar-10-binary.tar.gz of 50 + 10 images, and {split: (images, labels)}."""
  folder = tmp_path / 'archives'
  folder.mkdir()
  train, test = (pixels(50, 1), np.arange(50) % 10), (pixels(10, 2), np.arange(10))
  with tarfile.open(folder / 'cifar-10-binary.tar.gz', 'w:gz') as tar:
    prefix = 'cifar-10-batches-bin'
    names = 'airplane automobile bird cat deer dog frog horse ship truck'
    add(tar, f'{prefix}/batches.meta.txt', ('\n'.join(names.split()) + '\n\n').encode())
    for batch in range(5):
      rows = slice(batch * 10, batch * 10 + 10)
      add(tar, f'{prefix}/data_batch_{batch + 1}.bin', cifar_records(train[0][rows], train[1][rows]))
    add(tar, f'{prefix}/test_batch.bin', cifar_records(*test))
  return folder, {'train': train, 'test': test}


@pytest.fixture
def cifar100(tmp_path: pathlib.Path) -> tuple[pathlib.Path, dict[str, tuple[np.ndarray, np.ndarray]]]:
  """The same for cifar-100-binary.tar.gz of 100 + 100 images: coarse label, fine label, pixels."""
  folder = tmp_path / 'archives'
  folder.mkdir()
  splits = {'train': (pixels(100, 3), np.arange(100)), 'test': (pixels(100, 4), np.arange(100)[::-1])}
  with tarfile.open(folder / 'cifar-100-binary.tar.gz', 'w:gz') as tar:
    prefix = 'cifar-100-binary'
    add(tar, f'{prefix}/coarse_label_names.txt', '\n'.join(f'coarse{i}' for i in range(20)).encode())
    add(tar, f'{prefix}/fine_label_names.txt', '\n'.join(f'fine{i}' for i in range(100)).encode())
    for split, (images, labels) in splits.items():
      add(tar, f'{prefix}/{split}.bin', cifar_records(images, labels // 5, labels))
  return folder, splits


@pytest.fixture
def svhn(tmp_path: pathlib.Path) -> tuple[pathlib.Path, dict[str, tuple[np.ndarray, np.ndarray]]]:
  """The same for the three .mat files, in which the digit 0 has the label 10."""
  from scipy.io import savemat

  folder = tmp_path / 'archives'
  folder.mkdir()
  splits = {}
  for seed, (split, count) in enumerate({'train': 20, 'test': 10, 'extra': 30}.items()):
    splits[split] = pixels(count, 5 + seed), np.arange(count) % 10
    images, labels = splits[split]
    stored = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
    savemat(folder / f'{split}_32x32.mat', {'X': images.transpose(1, 2, 3, 0), 'y': stored})
  return folder, splits


@pytest.fixture
def imagenet(tmp_path: pathlib.Path) -> tuple[pathlib.Path, dict[str, dict[str, bytes]]]:
  """The folder with the two ILSVRC2012 tars of 4 classes x 3 and 5 images, and {split: {file name: JPEG bytes}}."""
  folder = tmp_path / 'archives'
  folder.mkdir()
  files: dict[str, dict[str, bytes]] = {'train': {}, 'validation': {}}
  with tarfile.open(folder / 'ILSVRC2012_img_train.tar', 'w') as outer:
    for number, synset in enumerate(('n01440764', 'n01443537', 'n01484850', 'n01491361')):
      inner_file = io.BytesIO()
      with tarfile.open(fileobj=inner_file, mode='w') as inner:
        for place in range(3):
          name = f'{synset}_{place}.JPEG'
          files['train'][name] = jpeg(pixels(1, 10 * number + place, 90 + 8 * place, 120)[0])
          add(inner, name, files['train'][name])
      add(outer, f'{synset}.tar', inner_file.getvalue())
  with tarfile.open(folder / 'ILSVRC2012_img_val.tar', 'w') as tar:
    for number in range(1, 6):
      name = f'ILSVRC2012_val_{number:08d}.JPEG'
      files['validation'][name] = jpeg(pixels(1, 100 + number, 70, 80 + 10 * number)[0])
      add(tar, name, files['validation'][name])
  return folder, files
