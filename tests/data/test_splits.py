"""Datasets that lie on the device, with the digits as the example."""

import functools
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from harness import resolved
from PIL import Image
from sklearn.datasets import load_digits

from cmpe_jax.data import datasets
from cmpe_jax.data.datasets import DATASETS
from cmpe_jax.data.preparation import install
from cmpe_jax.data.preparation.install import Request
from cmpe_jax.errors import UserError
from cmpe_jax.runtime import mesh as meshes


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory) -> pathlib.Path:
  return tmp_path_factory.mktemp('data')


@pytest.fixture
def open_digits(data_dir, open_split):
  return functools.partial(open_split, data_dir)


def test_digits_are_scikit_learns(data_dir, open_digits, config_for):
  """Reduced to 8x8 again, the stored images are the 1,797 originals, one to one, with their labels."""
  digits = load_digits()
  sources = [open_digits(split) for split in ('train', 'test')]
  assert [source.num_examples for source in sources] == [1433, 364]
  labels = [np.asarray(source.resident['label']) for source in sources]
  assert (np.bincount(labels[0]) + np.bincount(labels[1]) == np.bincount(digits.target)).all()
  assert (np.bincount(labels[1]) == -(-np.bincount(digits.target) // 5)).all()
  images = np.concatenate([np.asarray(source.resident['image']) for source in sources])
  assert images.shape == (1797, 16, 16, 3)
  reduced = images[..., 0].reshape(1797, 8, 2, 8, 2).mean((2, 4)).reshape(1797, 64) / 255 * 16
  squares = (digits.data**2).sum(1)[:, None] - 2 * digits.data @ reduced.T + (reduced**2).sum(1)
  nearest = squares.argmin(1)
  assert len(set(nearest.tolist())) == 1797
  assert np.sqrt(squares.min(1) / 64).mean() < 1  # of a range of 16
  assert (np.concatenate(labels)[nearest] == digits.target).all()
  normal = images / 255
  info = datasets.describe(config_for(data_dir))
  assert abs(normal.mean() - info.mean[0]) < 0.01
  assert abs(normal.std() - info.std[0]) < 0.03
  assert info.augmentation == 'crop'  # a mirrored 2 is no 2


@pytest.mark.parametrize('devices', [1, 2, 8])
def test_train_batches_are_the_same_on_any_devices(open_digits, small_mesh, devices):
  source = open_digits(devices=devices, batch_size=64)
  reference = open_digits(devices=1, batch_size=64)
  calls = [(0, 1, 8), (1, 3, 8), (21, 4, 8)]  # step 22 spans the first two epochs of 1,433
  for drawn, expected, (first, count, _) in zip(source.train(calls), reference.train(calls), calls, strict=True):
    assert drawn.shape == (count, 64)
    assert len(drawn.sharding.device_set) == devices
    for step in range(count):
      batch = jax.jit(source.materialize)(source.resident, drawn[step])
      positions = (first + step) * 64 + np.arange(64)
      np.testing.assert_array_equal(drawn[step], expected[step])
      rows = np.asarray(drawn[step])
      np.testing.assert_array_equal(batch['image'], np.asarray(source.resident['image'])[rows])
      np.testing.assert_array_equal(batch['label'], np.asarray(source.resident['label'])[rows])
      np.testing.assert_array_equal(batch['index'], rows)
      assert batch['mask'].all()
      assert len(set(rows[positions < 1433].tolist())) == (positions < 1433).sum()
      if devices > 1:
        assert batch['image'].sharding.is_equivalent_to(meshes.batch_sharding(small_mesh(devices)), 4)


@pytest.mark.parametrize('batch_size', [8, 64, 128, 368])
def test_evaluation_sees_every_example_once(open_digits, batch_size):
  source = open_digits('test')
  seen, labels = [], []
  for drawn in source.evaluate(batch_size):
    batch = source.materialize(source.resident, drawn)
    assert batch['image'].shape == (batch_size, 16, 16, 3)
    mask = np.asarray(batch['mask'])
    seen += np.asarray(batch['index'])[mask].tolist()
    labels += np.asarray(batch['label'])[mask].tolist()
    assert (np.asarray(batch['index'])[~mask] == -1).all()
  assert seen == list(range(364))
  assert labels == np.asarray(source.resident['label']).tolist()


def test_validation_is_cut_from_the_training_split(open_digits):
  whole = np.asarray(open_digits().resident['image'])
  parts = [np.asarray(open_digits(split, validation=0.1).resident['image']) for split in ('train', 'validation')]
  assert [len(part) for part in parts] == [1290, 143]
  assert sorted(image.tobytes() for part in parts for image in part) == sorted(image.tobytes() for image in whole)
  with pytest.raises(UserError, match='validation=0.0'):
    open_digits('validation')
  with pytest.raises(UserError, match='split='):
    open_digits('dev')


def test_the_part_held_out_is_of_each_class_wherever_images_lie(open_digits):
  """`resident_megabytes` may change in a run: it must not move images from one part to the other."""
  resident, streamed = (open_digits('validation', validation=0.1, resident_megabytes=size) for size in (2048, 0))
  labels = np.asarray(resident.resident['label'])
  every = np.asarray(open_digits().resident['label'])
  assert abs(np.bincount(labels) - 0.1 * np.bincount(every)).max() < 1
  drawn = np.concatenate([np.asarray(batch['label'])[np.asarray(batch['mask'])] for batch in streamed.evaluate(64)])
  streamed.close()
  assert drawn.tolist() == labels.tolist()
  old = np.asarray(open_digits('validation', validation=0.1, held_out_by='position').resident['label'])
  assert len(old) == len(labels)
  assert old.tolist() != labels.tolist()


def test_no_tensorflow_at_train_time(tmp_path):
  """Preparing the digits, reading them, a folder in both ways: TensorFlow is installed here, but never imported."""
  for name in ('a', 'b'):
    (tmp_path / 'folder' / name).mkdir(parents=True)
    for number in range(4):
      Image.new('RGB', (80, 80)).save(tmp_path / 'folder' / name / f'{number}.jpg')
  script = f"""
import sys
from cmpe_jax import config as configuration
from cmpe_jax.data import augment, datasets, splits
from cmpe_jax.runtime import mesh
for dataset, size in (('digits', 0), ('folder:{tmp_path}/folder', 0), ('folder:{tmp_path}/folder', 72)):
  config = configuration.base()
  config.update(dataset=dataset, data_dir='{tmp_path}', image_size=size, batch_size=4)
  info = datasets.describe(config)
  source = splits.open_split(config, info, 'train', mesh.make())
  for drawn in source.train([(0, 1, info.image_size)]):
    pass
  source.close()
assert 'tensorflow' not in sys.modules
assert 'torch' not in sys.modules
print('done')
"""
  env = {'PATH': '/usr/bin:/bin', 'JAX_PLATFORMS': 'cpu', 'HOME': str(tmp_path)}
  done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, env=env)
  assert done.stdout.strip() == 'done', done.stderr


def test_first_use_takes_seconds_and_needs_no_words(tmp_path, capfd, open_split):
  start = time.perf_counter()
  assert open_split(tmp_path).num_examples == 1433
  assert time.perf_counter() - start < 20  # 1.5 on an idle machine
  captured = capfd.readouterr()
  assert 'Generating' not in captured.out + captured.err
  assert 'OpenCV' not in captured.err


def test_missing_data_name_the_command(tmp_path, open_split):
  with pytest.raises(UserError) as caught:
    open_split(tmp_path, dataset='cifar10')
  assert f'python -m cmpe_jax.data.prepare --dataset=cifar10 --data_dir={tmp_path}' in str(caught.value)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'dataset': 'mnist'}, "'cifar10'.*'folder:PATH'"),
    ({'dataset': 'cifar10', 'image_size': 64}, 'image_size=64.*32x32'),
    ({'dataset': 'cifar10', 'stored_side': 256}, 'stored_side=256'),
    ({'dataset': 'cifar10', 'data_dir': 'gs://bucket/data'}, 'data_dir=.*Mount'),
  ],
)
def test_wrong_datasets(tmp_path, config_for, changes, message):
  with pytest.raises(UserError, match=message):
    datasets.describe(config_for(**({'data_dir': tmp_path} | changes)))


def test_resolve(tmp_path, config_for):
  config = config_for(tmp_path, dataset='cifar100')
  found = resolved(config)
  assert (found.image_size, found.model.num_classes) == (32, 100)
  assert (config.image_size, config.model.num_classes) == (0, 0)
  config.model.num_classes = 10
  with pytest.raises(UserError, match='model.num_classes=10.*100 classes'):
    resolved(config)


def test_svhn_with_and_without_extra(svhn, tmp_path, config_for, open_split):
  folder, written = svhn
  install.prepare(DATASETS['svhn_cropped'], tmp_path, Request(folder=folder, partial=True))
  for extra, splits in ((True, ('train', 'extra')), (False, ('train',))):
    config = config_for(tmp_path, dataset='svhn_cropped', svhn_extra=extra, batch_size=8)
    info = datasets.describe(config)
    assert (info.augmentation, info.mean, info.std, info.is_resident) == ('none', (0.0,) * 3, (1.0,) * 3, True)
    source = open_split(tmp_path, dataset='svhn_cropped', svhn_extra=extra)
    stored = sorted(image.tobytes() for image in np.asarray(source.resident['image']))
    assert stored == sorted(image.tobytes() for split in splits for image in written[split][0])
