"""The datasets by name: those of TFDS, the digits that scikit-learn ships, and folders of images."""

import dataclasses

import ml_collections

from cmpe_jax.data.datasets import folder
from cmpe_jax.data.datasets.dataset import Dataset
from cmpe_jax.data.datasets.digits import HandwrittenDigits
from cmpe_jax.data.datasets.folder import ClassFolder
from cmpe_jax.data.datasets.tfds import Svhn, TfdsDataset
from cmpe_jax.errors import UserError

FOLDER_PREFIX = 'folder:'
_NAMED: tuple[TfdsDataset, ...] = (
  HandwrittenDigits(),
  TfdsDataset(
    'cifar10',
    10,
    32,
    (0.4914, 0.4822, 0.4465),
    (0.2470, 0.2435, 0.2616),
    'crop_flip',
    {'train': 50_000, 'test': 10_000},
  ),
  TfdsDataset(
    'cifar100',
    100,
    32,
    (0.5071, 0.4865, 0.4409),
    (0.2673, 0.2564, 0.2762),
    'crop_flip',
    {'train': 50_000, 'test': 10_000},
  ),
  # House numbers are not mirrored, and only divided by 255, as in the Wide ResNet paper.
  Svhn(
    'svhn_cropped',
    10,
    32,
    (0.0,) * 3,
    (1.0,) * 3,
    'none',
    {'train': 73_257, 'test': 26_032, 'extra': 531_131},
  ),
  TfdsDataset(
    'imagenet2012',
    1000,
    224,
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
    'random_resized',
    {'train': 1_281_167, 'validation': 50_000},
    test_split='validation',
    stores_smaller=True,
  ),
)
DATASETS = {dataset.name: dataset for dataset in _NAMED}


def are_folders(*configs: ml_collections.ConfigDict) -> bool:
  """Whether all have a class folder, whose classes are whatever lies in it."""
  return all(config.dataset.startswith(FOLDER_PREFIX) for config in configs)


def describe(config: ml_collections.ConfigDict) -> Dataset:
  """The dataset that `config.dataset` names. Reads a folder's listing, but no image and no prepared dataset.

  Raises:
    UserError: unknown name, an image size that the dataset does not have, a folder without two classes.
  """
  found = _find(config)
  if config.pixel_mean:
    found = dataclasses.replace(found, mean=tuple(config.pixel_mean), std=tuple(config.pixel_std))
  return found


def normalization(config: ml_collections.ConfigDict) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Mean and deviation by which a configuration's images are normalized, whether it or its dataset says so.

  Reads nothing. Raises `UserError`: unknown name.
  """
  if config.pixel_mean:
    return tuple(config.pixel_mean), tuple(config.pixel_std)
  if are_folders(config):
    return folder.MEAN, folder.STD
  known = _known(config.dataset)
  return known.mean, known.std


def normalized_as(config: ml_collections.ConfigDict, trained: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """`config` with the mean and deviation of the images that a network was trained on."""
  found = config.copy_and_resolve_references()
  found.pixel_mean, found.pixel_std = normalization(trained)
  return found


def _find(config: ml_collections.ConfigDict) -> Dataset:
  if config.dataset.startswith(FOLDER_PREFIX):
    return ClassFolder(config.dataset.removeprefix(FOLDER_PREFIX), config.split_seed, config.split_by).describe(config)
  return _known(config.dataset).describe(config)


def _known(name: str) -> TfdsDataset:
  if name not in DATASETS:
    names = ', '.join(repr(name) for name in DATASETS)
    raise UserError(f"dataset={name!r} is not known. Choose one of: {names}, or 'folder:PATH'.")
  return DATASETS[name]
