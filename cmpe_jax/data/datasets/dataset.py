"""What a program needs to know of a dataset before it reads an image, and how its splits are opened."""

import dataclasses
from typing import Protocol

import ml_collections
import numpy as np

from cmpe_jax.data.source import Arrays, Examples
from cmpe_jax.errors import UserError


class Content(Protocol):
  """The images of a dataset as they are stored, in the splits 'train' and 'test'."""

  def examples(self, stored: str) -> Examples:
    """Encoded images of a split. Raises `UserError` if they are not there."""
    ...

  def labels(self, stored: str) -> np.ndarray:
    """int32[n], without the images; all 0 where that would mean to read all of them from large files."""
    ...

  def names(self, stored: str) -> list[str]:
    """The file of each image, 'CLASS/IMAGE'; [] where they are no files of their own."""
    ...

  def arrays(self, stored: str) -> Arrays:
    """All images of a split, decoded, at the size that the net sees. Raises `UserError` if they are not there."""
    ...


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A dataset as a configuration asks for it; see `datasets.describe`.

  Attributes:
    name: the value of `config.dataset`.
    image_size: side of the square images that the net sees, in pixels; in training there may be other ones.
    mean: of each channel, on the scale 0..1.
    std: of each channel, on the same scale.
    class_names: one per label; labels are 0 .. num_classes - 1.
    augmentation: 'none', 'crop' (pad and crop), 'crop_flip' (and mirror), 'random_resized' (crop of random area
      and ratio, and mirror; made on the host).
    counts: examples of the stored splits 'train' and 'test', known without reading them.
    is_resident: whether the decoded dataset lies on the device as a whole.
    content: how the splits are opened.
    is_upright: whether images are turned as their EXIF blocks say.
  """

  name: str
  image_size: int
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  class_names: tuple[str, ...]
  augmentation: str
  counts: dict[str, int]
  is_resident: bool
  content: Content
  is_upright: bool = False

  @property
  def num_classes(self) -> int:
    """Number of labels."""
    return len(self.class_names)

  @property
  def is_cropped(self) -> bool:
    """Whether images are cut from the original files: random-resized in training, the centre in evaluation."""
    return self.augmentation == 'random_resized'

  def resolve(self, config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """A copy of the configuration with the dataset's `image_size` and `model.num_classes` filled in.

    Raises:
      UserError: `model.num_classes` is given but differs from the dataset's; images that have one size, and
        `train_image_sizes`.
    """
    if config.train_image_sizes and not self.is_cropped:
      raise UserError(
        f'train_image_sizes={tuple(config.train_image_sizes)} are sizes of random-resized crops, and '
        f'dataset={self.name!r} has augmentation={self.augmentation!r}. Set it to (), or use images that are cropped '
        "(augmentation='random_resized')."
      )
    if config.model.num_classes not in (0, self.num_classes):
      raise UserError(
        f'model.num_classes={config.model.num_classes}, but dataset={self.name!r} has {self.num_classes} classes. '
        'Set model.num_classes=0.'
      )
    resolved = ml_collections.ConfigDict(config.to_dict())
    resolved.image_size = self.image_size
    resolved.model.num_classes = self.num_classes
    return resolved


def is_upright(config: ml_collections.ConfigDict) -> bool:
  """Whether images are turned as their EXIF blocks say: by default those of folders, which are people's own."""
  return config.orientation == 'exif' or (not config.orientation and config.dataset.startswith('folder:'))


def fits(megabytes: int, count: int, image_size: int, augmentation: str) -> bool:
  """Whether so many decoded images lie on the device as a whole: crops of original files never do."""
  return augmentation != 'random_resized' and count * image_size**2 * 3 <= megabytes * 2**20
