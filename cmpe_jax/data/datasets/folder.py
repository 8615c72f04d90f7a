"""`folder:PATH`: class sub-folders of images, read where they lie."""

import concurrent.futures
import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence

import ml_collections
import numpy as np

from cmpe_jax.data import image, listing
from cmpe_jax.data.datasets.dataset import Dataset, fits, is_upright
from cmpe_jax.data.source import Arrays
from cmpe_jax.errors import UserError

TEST_FOLDERS = ('test', 'val', 'valid', 'validation')
PARTS = ('train', 'training', *TEST_FOLDERS, 'testing')
TEST_PART = 0.2  # of each class, when the folder has no test sub-folder
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


@dataclasses.dataclass(frozen=True)
class Listing:
  """A folder dataset: `splits` has 'train' and 'test'; `roots` where the class folders of each lie."""

  class_names: tuple[str, ...]
  splits: dict[str, 'Files']
  roots: dict[str, pathlib.Path] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Files:
  """Image files as examples."""

  paths: list[str]
  labels: np.ndarray

  def __len__(self) -> int:
    return len(self.paths)

  def read(self, position: int) -> tuple[bytes, int, str]:
    """The file's bytes, its label, its path. Raises `UserError` when it cannot be read."""
    path = self.paths[position]
    try:
      return pathlib.Path(path).read_bytes(), int(self.labels[position]), path
    except OSError as error:
      raise UserError(f'{path} cannot be read ({error.strerror}). It was there when the run began.') from error

  def take(self, rows: np.ndarray) -> 'Files':
    """The examples at `rows`."""
    return Files([self.paths[row] for row in rows], self.labels[rows])


@dataclasses.dataclass(frozen=True)
class ClassFolder:
  """A folder with a sub-folder of images for each class.

  Attributes:
    path: of the folder.
    split_seed: which images are the test part, if the folder has no test sub-folder.
    split_by: what decides it: the 'path' of each, or its 'position' among the others.
  """

  path: str
  split_seed: int
  split_by: str = 'path'

  def describe(self, config: ml_collections.ConfigDict) -> Dataset:
    """The dataset as a configuration asks for it; scans the folder, once.

    Images are resized to 32x32 unless `image_size` is set; above 64 they get random-resized crops.

    Raises:
      UserError: see `scan`.
    """
    listing = scan(pathlib.Path(self.path), self.split_seed, self.split_by)
    image_size = config.image_size or 32
    augmentation = config.augmentation or usual_augmentation(image_size)
    counts = {split: len(files) for split, files in listing.splits.items()}
    return Dataset(
      name=config.dataset,
      image_size=image_size,
      mean=MEAN,
      std=STD,
      class_names=listing.class_names,
      augmentation=augmentation,
      counts=counts,
      is_resident=fits(config.resident_megabytes, sum(counts.values()), image_size, augmentation),
      content=Content(listing, image_size, is_upright(config)),
      is_upright=is_upright(config),
    )


@dataclasses.dataclass(frozen=True)
class Content:
  """The images of a scanned folder; upright ones are turned as their EXIF blocks say."""

  listing: Listing
  image_size: int
  is_upright: bool = False

  def examples(self, stored: str) -> Files:
    """The files."""
    return self.listing.splits[stored]

  def labels(self, stored: str) -> np.ndarray:
    """Those of the files."""
    return self.examples(stored).labels

  def names(self, stored: str) -> list[str]:
    """Those of the files, below the folder that holds the classes."""
    return _below(self.listing.roots[stored], self.examples(stored).paths)

  def arrays(self, stored: str) -> Arrays:
    """All images resized, and their labels. Raises `UserError`: one cannot be read."""
    files = self.examples(stored)

    def one(position: int) -> np.ndarray:
      data, _, name = files.read(position)
      return image.resize(image.decode(data, name, self.is_upright), self.image_size)

    with concurrent.futures.ThreadPoolExecutor() as pool:
      return np.stack(list(pool.map(one, range(len(files))))), files.labels


def usual_augmentation(image_size: int) -> str:
  """What happens to images of this size unless `config.augmentation` says otherwise."""
  return 'crop_flip' if image_size <= 64 else 'random_resized'


def scan(root: pathlib.Path, split_seed: int, split_by: str = 'path') -> Listing:
  """Lists a folder of images in one of two layouts; labels number the class names in alphabetical order.

  * `root/train/CLASS/...` and `root/test/CLASS/...` (or `val`, `valid`, `validation`; the first of them that is there);
  * `root/CLASS/...`: about a fifth of each class becomes the test split. With `split_by` 'path' the path of an image
    below `root` and `split_seed` decide, so that images that come or go leave the others where they are.

  Images are the files whose suffix Pillow knows, at any depth below the class folder; hidden files are skipped.

  Raises:
    UserError: no such folder, fewer than two classes, a class without images, a test class that has no training
      images, no image that is left to test on; a folder that cannot be read, or a class name that is no text.
  """
  try:
    return _scan(root.expanduser(), split_seed, split_by)
  except OSError as error:
    raise listing.unreadable(error) from error


def _scan(root: pathlib.Path, split_seed: int, split_by: str) -> Listing:
  if not root.is_dir():
    raise UserError(f'folder {str(root)!r} does not exist. Give the folder that holds the class sub-folders.')
  names_of_test = TEST_FOLDERS[:2] if split_by == 'position' else TEST_FOLDERS  # version 1.0 knew two
  parts = _parts(root)
  train, test = parts.get('train'), next((parts[name] for name in names_of_test if name in parts), None)
  if train and test:
    names, files = _classes(train)
    return Listing(names, {'train': files, 'test': _classes(test, names)[1]}, {'train': train, 'test': test})
  root = train or root
  names, files = _classes(root)
  if split_by == 'position':
    is_test = _draw_test(files.labels, split_seed)
  else:
    is_test = _own_test(files.labels, _below(root, files.paths), split_seed)
  rows = {'train': np.flatnonzero(~is_test), 'test': np.flatnonzero(is_test)}
  if not len(rows['test']):
    raise UserError(
      f'folder {str(root)!r} has one image a class, so that none is left to test on: add images, or a folder test/.'
    )
  return Listing(names, {split: files.take(chosen) for split, chosen in rows.items()}, dict.fromkeys(rows, root))


def _below(root: pathlib.Path, paths: Sequence[str]) -> list[str]:
  return [pathlib.PurePath(path).relative_to(root).as_posix() for path in paths]


def _parts(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """The folders that are called like parts of a dataset, by name; one that is written in capitals if it is the only."""
  found = (path for path in sorted(root.iterdir()) if path.name.lower() in PARTS and path.is_dir())
  return {path.name.lower(): path for path in found}  # capitals are sorted first, so that others take their place


def _classes(root: pathlib.Path, expected: tuple[str, ...] = ()) -> tuple[tuple[str, ...], Files]:
  """Class names, and the files in the order of class, then path. `expected`: the training split's names."""
  folders = [path for path in sorted(root.iterdir()) if path.is_dir() and path.name[0] != '.']
  for path in folders:
    try:
      path.name.encode()
    except UnicodeEncodeError as error:  # bytes that are no UTF-8
      raise UserError(f'the class folder {ascii(str(path))} has a name that is no text: rename it.') from error
  found = {path.name: listing.images(path, [root, *folders]) for path in folders}
  if not any(found.values()):
    raise UserError(f'folder {str(root)!r} holds no images in class sub-folders ({root.name}/CLASS/IMAGE).')
  if expected and set(found) - set(expected):
    raise UserError(f'classes {sorted(set(found) - set(expected))} in {str(root)!r} have no training images.')
  names = expected or tuple(found)
  if len(names) < 2:
    raise UserError(f'folder {str(root)!r} has one class, {names[0]!r}. A classifier needs at least two sub-folders.')
  if all(name.lower() in PARTS for name in names):
    raise UserError(
      f'folder {str(root)!r} has {" and ".join(map(repr, names))} where class folders are expected: call the parts '
      f"'train' and 'test', with the class folders in them."
    )
  if empty := [name for name, paths in found.items() if not paths]:
    raise UserError(f'class folders {empty} in {str(root)!r} hold no images. Fill or remove them.')
  paths = [path for name in names for path in found.get(name, ())]
  labels = [label for label, name in enumerate(names) for _ in found.get(name, ())]
  return names, Files(paths, np.asarray(labels, np.int32))


def _own_test(labels: np.ndarray, names: Sequence[str], split_seed: int) -> np.ndarray:
  """bool[n]: the images whose path is hashed into the lowest fifth.

  A class with two or more images has at least one on either side, which is the only case where others matter.
  """
  hashes = np.empty(len(names))
  for position, name in enumerate(names):
    digest = hashlib.blake2b(listing.normalized(name), digest_size=8, key=str(split_seed).encode()).digest()
    hashes[position] = int.from_bytes(digest) / 2**64
  is_test = hashes < TEST_PART
  for label in np.unique(labels):
    members = np.flatnonzero(labels == label)
    if len(members) > 1:
      members = members[np.argsort(hashes[members])]
      is_test[members[0]], is_test[members[-1]] = True, False
    else:
      is_test[members] = False
  return is_test


def _draw_test(labels: np.ndarray, split_seed: int) -> np.ndarray:
  """bool[n], by position, as before version 1.1: at least one example of every class that has two or more."""
  generator = np.random.default_rng(split_seed)
  is_test = np.zeros(len(labels), bool)
  for label in np.unique(labels):
    members = generator.permutation(np.flatnonzero(labels == label))
    count = max(1, round(TEST_PART * len(members))) if len(members) > 1 else 0
    is_test[members[:count]] = True
  return is_test
