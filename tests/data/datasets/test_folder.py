"""Folders of images: both layouts, and what can be wrong with them."""

import contextlib
import os
import pathlib
import tempfile

import numpy as np
import pytest
from harness import resolved
from PIL import Image

from cmpe_jax import config as configuration
from cmpe_jax.data import datasets, listing, splits
from cmpe_jax.data.datasets import folder
from cmpe_jax.errors import UserError
from cmpe_jax.runtime import mesh

COLOURS = {'blue': (0, 0, 255), 'green': (0, 255, 0), 'red': (255, 0, 0)}


def fill(root: pathlib.Path, count: int, classes=COLOURS, suffix: str = '.png') -> None:
  for name in classes:
    (root / name).mkdir(parents=True)
    for number in range(count):
      Image.new('RGB', (20 + number, 30), COLOURS[name]).save(root / name / f'{number}{suffix}')


def config_for(root: pathlib.Path, **changes):
  config = configuration.base()
  config.dataset = f'folder:{root}'
  config.update(changes)
  configuration.check(config)
  return config


@pytest.mark.parametrize('test_folder', ['test', 'val', 'valid', 'validation'])
def test_split_folders(tmp_path, test_folder):
  fill(tmp_path / 'train', 4)
  fill(tmp_path / test_folder, 2, suffix='.bmp')
  config = config_for(tmp_path)
  info = datasets.describe(config)
  assert (info.num_classes, info.class_names, info.image_size) == (3, ('blue', 'green', 'red'), 32)
  assert (info.augmentation, info.is_resident) == ('crop_flip', True)
  assert resolved(config).model.num_classes == 3
  for split, count in (('train', 4), ('test', 2)):
    source = splits.open_split(config, info, split, mesh.make())
    assert source.num_examples == 3 * count
    for pixels, label in zip(source.resident['image'], source.resident['label'], strict=True):
      assert tuple(pixels[16, 16].tolist()) == COLOURS[info.class_names[label]]


@pytest.mark.parametrize('split_by', ['path', 'position'])
def test_own_split_is_fixed_and_has_all_classes(tmp_path, split_by):
  fill(tmp_path, 10)
  first, again, other = (folder.scan(tmp_path, seed, split_by).splits for seed in (0, 0, 1))
  counts = np.bincount(first['test'].labels).tolist()
  assert counts == [2, 2, 2] if split_by == 'position' else min(counts) >= 1
  assert len(first['train']) + len(first['test']) == 30
  assert np.bincount(first['train'].labels, minlength=3).min() >= 1
  assert not set(first['train'].paths) & set(first['test'].paths)
  assert first['test'].paths == again['test'].paths
  assert first['test'].paths != other['test'].paths


def test_images_that_come_or_go_leave_the_others_where_they_are(tmp_path):
  """1,000 images in two classes: a fifth is for the test, and each stays on its side wherever the folder lies."""
  for number in range(1000):
    path = tmp_path / 'here' / 'ab'[number % 2] / f'{number}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()

  def tested(root):
    splits = folder.scan(root, 7).splits
    names = [{str(pathlib.Path(path).relative_to(root)) for path in splits[part].paths} for part in ('test', 'train')]
    assert not names[0] & names[1]
    return names[0]

  before = tested(tmp_path / 'here')
  assert 200 - 3 * 13 < len(before) < 200 + 3 * 13  # binomial: standard deviation 12.6
  (tmp_path / 'here' / 'a' / '00.png').touch()  # first in the order
  (tmp_path / 'here' / 'b' / '1.png').unlink()
  assert tested(tmp_path / 'here') ^ before <= {'a/00.png', 'b/1.png'}
  after = tested(tmp_path / 'here')
  (tmp_path / 'here').rename(tmp_path / 'there')
  assert tested(tmp_path / 'there') == after


@pytest.mark.parametrize('seed', range(10))
def test_a_class_of_two_has_one_on_either_side_and_a_class_of_one_is_trained_on(tmp_path, seed):
  fill(tmp_path, 2, ['red', 'blue'])
  fill(tmp_path, 1, ['green'])
  splits = folder.scan(tmp_path, seed).splits
  assert splits['test'].labels.tolist() == [0, 2]
  assert splits['train'].labels.tolist() == [0, 1, 2]


def test_large_images_are_streamed_in_crops(tmp_path):
  fill(tmp_path, 5)
  info = datasets.describe(config_for(tmp_path, image_size=96))
  assert (info.augmentation, info.is_resident) == ('random_resized', False)
  info = datasets.describe(config_for(tmp_path, resident_megabytes=0))
  assert (info.augmentation, info.is_resident) == ('crop_flip', False)
  info = datasets.describe(config_for(tmp_path, augmentation='crop'))
  assert (info.augmentation, info.is_resident) == ('crop', True)


def test_streamed_equals_resident(tmp_path):
  """Small images that do not fit on the device come through the other source, equal pixel for pixel."""
  for name in COLOURS:
    (tmp_path / name).mkdir()
    for number in range(6):
      noise = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
      Image.fromarray(noise).save(tmp_path / name / f'{number}.png')
  batches, calls = {}, [(5, 1, 16)]
  for megabytes in (0, 1):
    config = config_for(tmp_path, resident_megabytes=megabytes, batch_size=8, image_size=16)
    source = splits.open_split(config, datasets.describe(config), 'train', mesh.make())
    drawn = [
      next(iter(source.train(calls)))[0] if megabytes else {k: v[0] for k, v in next(source.train(calls)).items()}
    ]
    batches[megabytes] = source.materialize(source.resident, drawn[0])
    source.close()
  for key in ('image', 'label', 'mask', 'index'):
    np.testing.assert_array_equal(batches[0][key], batches[1][key])


def test_wrong_folders(tmp_path):
  with pytest.raises(UserError, match='does not exist'):
    datasets.describe(config_for(tmp_path / 'nowhere'))
  with pytest.raises(UserError, match='holds no images in class sub-folders'):
    datasets.describe(config_for(tmp_path))
  fill(tmp_path / 'one', 3, ['red'])
  with pytest.raises(UserError, match="one class, 'red'"):
    datasets.describe(config_for(tmp_path / 'one'))
  fill(tmp_path / 'hole', 3)
  (tmp_path / 'hole' / 'empty').mkdir()
  with pytest.raises(UserError, match=r"\['empty'\].*hold no images"):
    datasets.describe(config_for(tmp_path / 'hole'))
  fill(tmp_path / 'new' / 'train', 3, ['red', 'blue'])
  fill(tmp_path / 'new' / 'test', 3)
  with pytest.raises(UserError, match=r"\['green'\].*no training images"):
    datasets.describe(config_for(tmp_path / 'new'))
  fill(tmp_path / 'single', 1)
  for split_by in ('path', 'position'):
    with pytest.raises(UserError, match='one image a class, so that none is left to test on'):
      datasets.describe(config_for(tmp_path / 'single', split_by=split_by))
  fill(tmp_path / 'bytes', 3)
  (tmp_path / 'bytes' / 'red').rename(tmp_path / 'bytes' / os.fsdecode(b'caf\xe9'))
  with pytest.raises(UserError, match=r'caf\\udce9. has a name that is no text'):
    datasets.describe(config_for(tmp_path / 'bytes'))


@pytest.fixture
def somebody():
  """A folder, and a user who may read of it what others may: root becomes another one meanwhile."""
  before = os.geteuid()
  with tempfile.TemporaryDirectory() as name:
    root = pathlib.Path(name)
    root.chmod(0o755)
    yield root, lambda: before or os.seteuid(65534)
    os.seteuid(before)
    for path in [root / 'mine', root / 'open' / 'red' / 'more']:
      path.chmod(0o700)


def test_a_folder_that_may_not_be_read_is_named_and_nothing_is_left_out(somebody):
  root, become = somebody
  fill(root / 'mine', 3)
  fill(root / 'open', 3)
  (root / 'open' / 'red' / 'more').mkdir(mode=0)
  (root / 'mine').chmod(0)
  try:
    become()
  except OSError:
    pytest.skip('there is nobody else on this machine')
  if not os.access(root, os.R_OK, effective_ids=True):
    pytest.skip('the folder of temporary files is for root only')
  for place, named in (('mine', 'mine'), ('mine/deeper', 'mine'), ('open', 'open/red/more')):
    with pytest.raises(UserError, match=rf'{named}.* cannot be read \(Permission denied\)'):
      datasets.describe(config_for(root / place))


@pytest.mark.parametrize('image_size', [16, 96])
def test_unreadable_image_is_named(tmp_path, image_size):
  fill(tmp_path, 3, suffix='.jpg')
  for split in folder.scan(tmp_path, 0).splits.values():
    broken = split.paths[0]
    pathlib.Path(broken).write_bytes(pathlib.Path(broken).read_bytes()[:300])
  config = config_for(tmp_path, image_size=image_size, batch_size=8)
  with pytest.raises(UserError, match=r'\.jpg is not a readable image'):
    for _ in splits.open_split(config, datasets.describe(config), 'train', mesh.make()).train([(0, 1, image_size)]):
      pass


def test_links_in_a_circle_multiply_nothing(tmp_path):
  fill(tmp_path / 'images', 3)
  (tmp_path / 'images' / 'red' / 'again').symlink_to(tmp_path / 'images' / 'red')
  (tmp_path / 'images' / 'blue' / 'a').mkdir()
  (tmp_path / 'images' / 'blue' / 'a' / 'up').symlink_to('../..')
  (tmp_path / 'elsewhere').mkdir()
  Image.new('RGB', (9, 9)).save(tmp_path / 'elsewhere' / 'linked.png')
  (tmp_path / 'images' / 'green' / 'link').symlink_to(tmp_path / 'elsewhere')
  found = [pathlib.Path(path).name for path in listing.images(tmp_path / 'images' / 'red')]
  assert found == ['0.png', '1.png', '2.png']
  assert len(listing.images(tmp_path / 'images' / 'green')) == 4
  assert len(listing.images(tmp_path / 'images')) == 10
  splits = folder.scan(tmp_path / 'images', 0).splits
  assert (np.bincount(splits['train'].labels) + np.bincount(splits['test'].labels)).tolist() == [3, 4, 3]


def test_missing_class_in_the_test_folder_is_allowed(tmp_path):
  fill(tmp_path / 'train', 3)
  fill(tmp_path / 'test', 1, ['red'])
  assert folder.scan(tmp_path, 0).splits['test'].labels.tolist() == [2]


@pytest.mark.parametrize('size', [32, 96])
def test_photos_lie_upright_in_training_evaluation_and_preparation_unless_they_are_as_stored(tmp_path, size):
  """The red half is above where the EXIF block is heeded, on the left where it is not."""
  exif = Image.Exif()
  exif[0x0112] = 6
  pixels = np.zeros((120, 120, 3), np.uint8)
  pixels[:, :60, 0] = 250
  for name in 'ab':
    (tmp_path / name).mkdir()
    for number in range(6):
      Image.fromarray(pixels).save(tmp_path / name / f'{number}.jpg', exif=exif, quality=95)
  for orientation, is_upright in (('', True), ('exif', True), ('stored', False)):
    config = config_for(tmp_path, image_size=size, orientation=orientation, batch_size=8)
    info = datasets.describe(config)
    assert info.is_upright == is_upright
    for split in ('train', 'test'):
      with contextlib.closing(splits.open_split(config, info, split, mesh.make())) as source:
        if size == 32:
          shown = np.asarray(source.resident['image'])
        else:
          batch = next(source.evaluate(8))
          shown = np.asarray(batch['image'])[np.asarray(batch['mask'])]
      red = shown[..., 0].astype(int)
      above, left = red[:, : size // 2].mean() - red[:, size // 2 :].mean(), red[..., : size // 2].mean() - red.mean()
      assert (above > 200, left > 100) == (is_upright, not is_upright)
