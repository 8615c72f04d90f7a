"""Which datasets there are: classes, image size, normalisation and augmentation by name."""

import dataclasses
import pathlib

import ml_collections

from cmpe_jax.data import digits, folder, prepared
from cmpe_jax.errors import UserError

FOLDER_PREFIX = 'folder:'
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Dataset:
  """What the program needs to know of a dataset before it reads an image.

  Attributes:
    name: the value of `config.dataset`.
    num_classes: number of labels; they are 0 .. num_classes - 1.
    image_size: side of the square images that the net sees, in pixels.
    mean, std: per channel, on the scale 0..1.
    class_names: one per label.
    augmentation: 'none', 'crop' (pad and crop), 'crop_flip' (and mirror), 'random_resized' (crop of random area
      and ratio, and mirror; made on the host).
    resident: whether the decoded dataset lies on the device as a whole.
  """

  name: str
  num_classes: int
  image_size: int
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  class_names: tuple[str, ...]
  augmentation: str
  resident: bool


@dataclasses.dataclass(frozen=True)
class Known:
  """The constants of a named dataset. `counts` are examples per TFDS split, for the check after a preparation.

  Digits and house numbers are not mirrored. SVHN is only divided by 255 (as in the Wide ResNet paper).
  """

  num_classes: int
  image_size: int
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  augmentation: str
  counts: dict[str, int]
  test_split: str = 'test'


KNOWN = {
  'digits': Known(10, digits.IMAGE_SIZE, (0.305,) * 3, (0.376,) * 3, 'crop', digits.COUNTS),
  'cifar10': Known(
    10, 32, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), 'crop_flip', {'train': 50_000, 'test': 10_000}
  ),
  'cifar100': Known(
    100, 32, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), 'crop_flip', {'train': 50_000, 'test': 10_000}
  ),
  'svhn_cropped': Known(
    10, 32, (0.0,) * 3, (1.0,) * 3, 'none', {'train': 73_257, 'test': 26_032, 'extra': 531_131}
  ),
  'imagenet2012': Known(
    1000, 224, _IMAGENET_MEAN, _IMAGENET_STD, 'random_resized', {'train': 1_281_167, 'validation': 50_000}, 'validation'
  ),
}  # fmt: skip


def describe(config: ml_collections.ConfigDict) -> Dataset:
  """The dataset that `config.dataset` names. Reads a folder's listing, but no image and no prepared dataset.

  Raises:
    UserError: unknown name, an image size that the dataset does not have, a folder without two classes.
  """
  if config.dataset.startswith(FOLDER_PREFIX):
    return _describe_folder(config)
  if config.dataset not in KNOWN:
    names = ', '.join(repr(name) for name in KNOWN)
    raise UserError(f"dataset={config.dataset!r} is not known. Choose one of: {names}, or 'folder:PATH'.")
  known = KNOWN[config.dataset]
  large = known.augmentation == 'random_resized'
  if not large and config.image_size not in (0, known.image_size):
    raise UserError(
      f'image_size={config.image_size} does not fit dataset={config.dataset!r}, whose images are '
      f'{known.image_size}x{known.image_size}. Set image_size=0.'
    )
  if config.stored_side and config.dataset != 'imagenet2012':
    raise UserError(f'stored_side={config.stored_side} is for imagenet2012, not for {config.dataset!r}. Set it to 0.')
  image_size = config.image_size or known.image_size
  augmentation = config.augmentation or known.augmentation
  return Dataset(
    name=config.dataset,
    num_classes=known.num_classes,
    image_size=image_size,
    mean=known.mean,
    std=known.std,
    class_names=prepared.class_names(config.dataset, prepared.data_dir(config.data_dir)),
    augmentation=augmentation,
    resident=not large and _fits(config, sum(known.counts.values()), image_size, augmentation),
  )


def stored_splits(config: ml_collections.ConfigDict, split: str) -> tuple[str, ...]:
  """The TFDS splits that make up 'train' or 'test'."""
  if split == 'test':
    return (KNOWN[config.dataset].test_split,)
  return ('train', 'extra') if config.dataset == 'svhn_cropped' and config.svhn_extra else ('train',)


def resolve(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """A copy of the config with the dataset's `image_size` and `model.num_classes` filled in.

  Raises:
    UserError: as `describe`, and if `model.num_classes` is given but differs from the dataset's.
  """
  info = describe(config)
  if config.model.num_classes not in (0, info.num_classes):
    raise UserError(
      f'model.num_classes={config.model.num_classes}, but dataset={config.dataset!r} has {info.num_classes} classes. '
      'Set model.num_classes=0.'
    )
  resolved = ml_collections.ConfigDict(config.to_dict())
  resolved.image_size = info.image_size
  resolved.model.num_classes = info.num_classes
  return resolved


def _describe_folder(config: ml_collections.ConfigDict) -> Dataset:
  """A folder's images are resized to 32x32 unless `image_size` is set; above 64 they get random-resized crops."""
  listing = folder.scan(pathlib.Path(config.dataset.removeprefix(FOLDER_PREFIX)), config.split_seed)
  image_size = config.image_size or 32
  augmentation = config.augmentation or ('crop_flip' if image_size <= 64 else 'random_resized')
  count = sum(len(files) for files in listing.splits.values())
  return Dataset(
    name=config.dataset,
    num_classes=len(listing.class_names),
    image_size=image_size,
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    class_names=listing.class_names,
    augmentation=augmentation,
    resident=_fits(config, count, image_size, augmentation),
  )


def _fits(config: ml_collections.ConfigDict, count: int, image_size: int, augmentation: str) -> bool:
  """Random-resized crops are cut from the original files, so such a dataset is never resident."""
  return augmentation != 'random_resized' and count * image_size**2 * 3 <= config.resident_megabytes * 2**20
