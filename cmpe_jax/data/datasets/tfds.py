"""Datasets that TFDS knows: their published facts, how each is prepared, and how its splits are opened."""

import dataclasses
import pathlib
from typing import Any

import ml_collections
import numpy as np
import tensorflow_datasets as tfds

from cmpe_jax.data import damage, records
from cmpe_jax.data.datasets.dataset import Dataset, fits, is_upright
from cmpe_jax.data.preparation import archives
from cmpe_jax.data.preparation.install import Request
from cmpe_jax.data.source import Arrays
from cmpe_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class TfdsDataset:
  """A dataset by its name in TFDS. One entry of `datasets._NAMED` is all that a new one needs.

  Attributes:
    name: in TFDS, and in `config.dataset`.
    num_classes: number of labels.
    image_size: side of its square images, or of the crops that a net usually sees, in pixels.
    mean: of each channel, on the scale 0..1.
    std: of each channel, on the same scale.
    augmentation: see `Dataset`; 'random_resized' for datasets of photos, which are read as files.
    counts: examples of each TFDS split that has labels, for the check after a preparation.
    test_split: the TFDS split that is the test.
    stores_smaller: whether its images may be stored smaller (`stored_side`).
  """

  name: str
  num_classes: int
  image_size: int
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  augmentation: str
  counts: dict[str, int]
  test_split: str = 'test'
  stores_smaller: bool = False

  @property
  def is_large(self) -> bool:
    """Whether its images are files of any size."""
    return self.augmentation == 'random_resized'

  def describe(self, config: ml_collections.ConfigDict) -> Dataset:
    """The dataset as a configuration asks for it. Raises `UserError`: an image size that it does not have."""
    if not self.is_large and config.image_size not in (0, self.image_size):
      raise UserError(
        f'image_size={config.image_size} does not fit dataset={self.name!r}, whose images are '
        f'{self.image_size}x{self.image_size}. Set image_size=0.'
      )
    if config.stored_side and not self.stores_smaller:
      raise UserError(f'stored_side={config.stored_side} is for imagenet2012, not for {self.name!r}. Set it to 0.')
    root = records.data_dir(config.data_dir)
    image_size, augmentation = config.image_size or self.image_size, config.augmentation or self.augmentation
    splits = {split: self.splits(split, config.svhn_extra) for split in ('train', 'test')}
    resident = not self.is_large and fits(
      config.resident_megabytes, sum(self.counts.values()), image_size, augmentation
    )
    return Dataset(
      name=self.name,
      image_size=image_size,
      mean=self.mean,
      std=self.std,
      class_names=self.class_names(root),
      augmentation=augmentation,
      counts={split: sum(self.counts[part] for part in parts) for split, parts in splits.items()},
      is_resident=resident,
      content=Content(self, root, config.stored_side, splits),
      is_upright=is_upright(config),
    )

  def class_names(self, root: pathlib.Path) -> tuple[str, ...]:
    """The names of the labels. CIFAR's come with its archive: until it is prepared they are numbers."""
    directory = records.find(self.name, root)
    if not directory:
      return tuple(tfds.builder(self.name).info.features['label'].names)
    with damage.named(directory, 'features.json or label.labels.txt'):
      names = tuple(records.builder(directory).info.features['label'].names)
    if len(names) != self.num_classes:
      raise damage.Damaged(directory, f'it names {len(names)} classes instead of {self.num_classes}')
    return names

  def splits(self, split: str, with_extra: bool) -> tuple[str, ...]:
    """The TFDS splits that make up 'train' or 'test'."""
    del with_extra
    return (self.test_split,) if split == 'test' else ('train',)

  def stored_name(self, shorter_side: int) -> str:
    """The name under which it is stored: its own, or `name_256` for images made smaller at preparation."""
    return f'{self.name}_{shorter_side}' if shorter_side else self.name

  def missing(self, have: set[str], request: Request) -> set[str]:
    """The splits that a preparation should have made and has not."""
    del request
    return set(self.counts) - have

  def builder(self, request: Request) -> Any:
    """TFDS's builder class for what is asked for."""
    made = tfds.builder_cls(self.name)
    return archives.shrunk(made, request.shorter_side) if request.shorter_side else made

  def write(self, staging: pathlib.Path, root: pathlib.Path, request: Request) -> None:
    """Writes it into the data_dir `staging`. Raises `UserError`: no TensorFlow; missing or damaged archives."""
    archives.build(self.builder(request), staging, root, request.folder, request.partial)

  def unprepared(self, root: pathlib.Path, shorter_side: int) -> pathlib.Path:
    """What happens when it is to be read and is not there: raises `UserError` with the command that prepares it."""
    option = '' if root == records.data_dir('') else f' --data_dir={root}'
    option += f' --shorter_side={shorter_side}' if shorter_side else ''
    raise UserError(
      f'dataset={self.name!r} is not prepared in {str(root)!r}. '
      f'Run: python -m cmpe_jax.data.prepare --dataset={self.name}{option}'
    )


class Svhn(TfdsDataset):
  """House numbers: the additional images are part of the training split unless a configuration leaves them out."""

  def splits(self, split: str, with_extra: bool) -> tuple[str, ...]:
    """'train' is train + extra, or train alone."""
    own = super().splits(split, with_extra)
    return (*own, 'extra') if split == 'train' and with_extra else own

  def missing(self, have: set[str], request: Request) -> set[str]:
    """'extra' counts as missing only if it was asked for."""
    return super().missing(have, request) - (set() if request.extra else {'extra'})

  def builder(self, request: Request) -> Any:
    """TFDS's builder, which insists on the additional images, or a variant of it that does not."""
    made = super().builder(request)
    return made if request.extra else archives.without_extra(made)


@dataclasses.dataclass(frozen=True)
class Content:
  """The images of a prepared dataset.

  Attributes:
    dataset: which.
    root: the data_dir.
    shorter_side: of the stored images; 0: originals.
    splits: the TFDS splits of 'train' and 'test'.
  """

  dataset: TfdsDataset
  root: pathlib.Path
  shorter_side: int
  splits: dict[str, tuple[str, ...]]

  def examples(self, stored: str) -> records.Records:
    """Encoded images."""
    return records.Records(self._directory(), self.splits[stored])

  def labels(self, stored: str) -> np.ndarray:
    """Read from the records, which takes a second for 50,000 small images; of photos all 0."""
    found = self.examples(stored)
    count = len(found)
    return np.fromiter((0 if self.dataset.is_large else found.read(row)[1] for row in range(count)), np.int32, count)

  def names(self, stored: str) -> list[str]:
    """Records have none."""
    return []

  def arrays(self, stored: str) -> Arrays:
    """Decoded images, at the size that they have."""
    directory = self._directory()
    parts = [records.arrays(directory, name) for name in self.splits[stored]]
    if len(parts) == 1:
      return parts[0]
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])

  def _directory(self) -> pathlib.Path:
    found = records.find(self.dataset.stored_name(self.shorter_side), self.root)
    return found or self.dataset.unprepared(self.root, self.shorter_side)
