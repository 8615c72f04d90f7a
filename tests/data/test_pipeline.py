"""Sources of batches: the digits as the resident one, photos as the streamed one."""

import io
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from cmpe_jax import config as configs
from cmpe_jax import mesh as meshes
from cmpe_jax.data import datasets, install, pipeline, prepared, reader, stream
from cmpe_jax.errors import UserError


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory) -> pathlib.Path:
  return tmp_path_factory.mktemp('data')


def config_for(data_dir: pathlib.Path, **changes):
  config = configs.base()
  config.update({'data_dir': str(data_dir)} | changes)
  configs.check(config)
  return config


def small_mesh(devices: int) -> jax.sharding.Mesh:
  return jax.make_mesh((devices,), ('data',), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:devices])


def open_digits(data_dir, split='train', devices=8, **changes):
  config = config_for(data_dir, **changes)
  return pipeline.open_split(config, datasets.describe(config), split, small_mesh(devices))


def test_digits_are_scikit_learns(data_dir):
  """Reduced to 8x8 again, the stored images are the 1,797 originals, one to one, with their labels."""
  digits = load_digits()
  sources = [open_digits(data_dir, split) for split in ('train', 'test')]
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
def test_train_batches_are_the_same_on_any_devices(data_dir, devices):
  source = open_digits(data_dir, devices=devices, batch_size=64)
  reference = open_digits(data_dir, devices=1, batch_size=64)
  calls = [(0, 1), (1, 3), (21, 4)]  # step 22 spans the first two epochs of 1,433
  for drawn, expected, (first, count) in zip(source.train(calls), reference.train(calls), calls, strict=True):
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
def test_evaluation_sees_every_example_once(data_dir, batch_size):
  source = open_digits(data_dir, 'test')
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


def test_validation_is_cut_from_the_training_split(data_dir):
  whole = np.asarray(open_digits(data_dir).resident['image'])
  parts = [
    np.asarray(open_digits(data_dir, split, validation=0.1).resident['image']) for split in ('train', 'validation')
  ]
  assert [len(part) for part in parts] == [1290, 143]
  assert sorted(image.tobytes() for part in parts for image in part) == sorted(image.tobytes() for image in whole)
  with pytest.raises(UserError, match='validation=0.0'):
    open_digits(data_dir, 'validation')
  with pytest.raises(UserError, match='split='):
    open_digits(data_dir, 'dev')


def test_no_tensorflow_at_train_time(tmp_path):
  """Preparing the digits, reading them, a folder in both ways: TensorFlow is installed here, but never imported."""
  for name in ('a', 'b'):
    (tmp_path / 'folder' / name).mkdir(parents=True)
    for number in range(4):
      Image.new('RGB', (80, 80)).save(tmp_path / 'folder' / name / f'{number}.jpg')
  script = f"""
import sys
from cmpe_jax import config as configs, mesh
from cmpe_jax.data import augment, datasets, pipeline
for dataset, size in (('digits', 0), ('folder:{tmp_path}/folder', 0), ('folder:{tmp_path}/folder', 72)):
  config = configs.base()
  config.update(dataset=dataset, data_dir='{tmp_path}', image_size=size, batch_size=4)
  info = datasets.describe(config)
  source = pipeline.open_split(config, info, 'train', mesh.make())
  for drawn in source.train([(0, 1)]):
    pass
  source.close()
assert 'tensorflow' not in sys.modules
assert 'torch' not in sys.modules
print('done')
"""
  env = {'PATH': '/usr/bin:/bin', 'JAX_PLATFORMS': 'cpu', 'HOME': str(tmp_path)}
  done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, env=env)
  assert done.stdout.strip() == 'done', done.stderr


def test_first_use_takes_seconds_and_needs_no_words(tmp_path, capfd):
  start = time.perf_counter()
  assert open_digits(tmp_path).num_examples == 1433
  assert time.perf_counter() - start < 20  # 1.5 on an idle machine
  captured = capfd.readouterr()
  assert 'Generating' not in captured.out + captured.err
  assert 'OpenCV' not in captured.err


def test_kept_arrays_are_made_again_when_broken(tmp_path):
  before = np.asarray(open_digits(tmp_path).resident['image'])
  (path,) = tmp_path.glob('digits/*/resident-train-images.npy')
  whole = path.read_bytes()
  for content in (b'', b'rubbish', whole[:10_000]):
    path.write_bytes(content)
    np.testing.assert_array_equal(np.asarray(open_digits(tmp_path).resident['image']), before)
    assert path.read_bytes() == whole
  np.save(path, before[::-1])  # what is whole is used, not decoded again
  np.testing.assert_array_equal(np.asarray(open_digits(tmp_path).resident['image']), before[::-1])


def test_missing_data_name_the_command(tmp_path):
  config = config_for(tmp_path, dataset='cifar10')
  with pytest.raises(UserError) as caught:
    pipeline.open_split(config, datasets.describe(config), 'train', small_mesh(1))
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
def test_wrong_datasets(tmp_path, changes, message):
  with pytest.raises(UserError, match=message):
    datasets.describe(config_for(**({'data_dir': tmp_path} | changes)))


def test_resolve(tmp_path):
  config = config_for(tmp_path, dataset='cifar100')
  resolved = datasets.resolve(config)
  assert (resolved.image_size, resolved.model.num_classes) == (32, 100)
  assert (config.image_size, config.model.num_classes) == (0, 0)
  config.model.num_classes = 10
  with pytest.raises(UserError, match='model.num_classes=10.*100 classes'):
    datasets.resolve(config)


def test_svhn_with_and_without_extra(svhn, tmp_path):
  folder, written = svhn
  install.prepare('svhn_cropped', tmp_path, folder, partial=True)
  for extra, splits in ((True, ('train', 'extra')), (False, ('train',))):
    config = config_for(tmp_path, dataset='svhn_cropped', svhn_extra=extra, batch_size=8)
    info = datasets.describe(config)
    assert (info.augmentation, info.mean, info.std, info.resident) == ('none', (0.0,) * 3, (1.0,) * 3, True)
    source = pipeline.open_split(config, info, 'train', small_mesh(1))
    stored = sorted(image.tobytes() for image in np.asarray(source.resident['image']))
    assert stored == sorted(image.tobytes() for split in splits for image in written[split][0])


def colour(number: int) -> tuple[int, int, int]:
  return (10 * number, 250 - 10 * number, 5 * number)


@pytest.fixture
def photos(tmp_path) -> tuple[pathlib.Path, dict[str, int]]:
  """A prepared imagenet2012 of 12 + 5 one-coloured photos: any crop tells which one it is."""
  import tarfile

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
  install.prepare('imagenet2012', tmp_path / 'data', archives, partial=True)
  return tmp_path / 'data'


def open_photos(data_dir, split='train', devices=1, **changes):
  values = {'dataset': 'imagenet2012', 'image_size': 32, 'batch_size': 8} | changes
  config = config_for(data_dir, **values)
  return pipeline.open_split(config, datasets.describe(config), split, small_mesh(devices))


def test_streamed_batches(photos):
  """Image, label and index of a row belong together; an epoch is complete; threads and devices change nothing."""
  source = open_photos(photos, input_threads=1)
  assert (source.num_examples, source.resident) == (12, {})
  calls = [(0, 1), (1, 2), (3, 3)]
  batches = list(source.train(calls))
  assert [batch['image'].shape for batch in batches] == [(count, 8, 32, 32, 3) for _, count in calls]
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
    for batch, again in zip(batches, open_photos(photos, **changes).train(calls), strict=True):
      for key in batch:
        np.testing.assert_array_equal(batch[key], again[key])
  single = list(open_photos(photos).train([(step, 1) for step in range(6)]))
  np.testing.assert_array_equal(
    np.concatenate([np.asarray(batch['image']).reshape(-1, 32, 32, 3) for batch in single]), images
  )


def test_streamed_evaluation(photos):
  source = open_photos(photos, 'test', devices=4)
  batches = list(source.evaluate(4))
  assert [np.asarray(batch['index']).tolist() for batch in batches] == [[0, 1, 2, 3], [4, -1, -1, -1]]
  numbers = [int(round(float(image[..., 0].mean()) / 10)) for batch in batches for image in np.asarray(batch['image'])][
    :5
  ]
  assert sorted(numbers) == list(range(5))
  assert np.asarray(batches[1]['mask']).tolist() == [True, False, False, False]
  assert (np.asarray(batches[1]['image'])[1:] == 0).all()


def test_streamed_validation_part(photos):
  parts = [open_photos(photos, split, validation=0.25) for split in ('train', 'validation')]
  assert [part.num_examples for part in parts] == [9, 3]
  numbers = [
    int(round(float(image[..., 0].mean()) / 10))
    for part in parts
    for batch in part.evaluate(4)
    for image, mask in zip(np.asarray(batch['image']), batch['mask'], strict=True)
    if mask
  ]
  assert sorted(numbers) == list(range(12))


def test_any_step_at_once_and_close(photos):
  import threading

  source = open_photos(photos)
  start = time.perf_counter()
  batches = source.train((step, 1) for step in range(10**6, 10**6 + 500))
  next(batches)
  assert time.perf_counter() - start < 10
  assert any('grain' in thread.name for thread in threading.enumerate())
  source.close()
  deadline = time.perf_counter() + 10
  while any('grain' in thread.name for thread in threading.enumerate()) and time.perf_counter() < deadline:
    time.sleep(0.05)
  assert not any('grain' in thread.name for thread in threading.enumerate())


def test_each_process_reads_only_its_rows(photos):
  """Four devices as two processes would hold them: each half is read alone and is that half of the global batch."""
  source = open_photos(photos, devices=4)
  (whole,) = source.train([(3, 2)])
  read = []

  class Counted(prepared.Records):
    def read(self, position):
      read.append(position)
      return super().read(position)

  examples = Counted(source._examples._directory, ['train'])
  for rows in (np.arange(4), np.arange(4, 8)):
    part = reader.Reader(examples, 0, 32, True, 8, rows).train((3, 2))
    for key, value in part.items():
      np.testing.assert_array_equal(value, np.asarray(whole[key])[:, rows])
  assert len(read) == 16
  sharding = meshes.batch_sharding(small_mesh(4))
  np.testing.assert_array_equal(stream.own_rows(sharding, 8), np.arange(8))


def test_worker_processes(photos):
  """The same batches from two processes, which end when the source is closed; a broken photo is named from there."""
  import multiprocessing

  calls = [(step, 1) for step in range(5)]
  expected = list(open_photos(photos).train(calls))
  source = open_photos(photos, input_processes=2)
  for batch, reference in zip(source.train(calls), expected, strict=True):
    np.testing.assert_array_equal(batch['image'], reference['image'])
    np.testing.assert_array_equal(batch['index'], reference['index'])
  source.close()
  deadline = time.perf_counter() + 20
  while multiprocessing.active_children() and time.perf_counter() < deadline:
    time.sleep(0.1)
  assert not multiprocessing.active_children()
