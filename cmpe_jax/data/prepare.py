"""Prepares a dataset as ArrayRecord: `python -m cmpe_jax.data.prepare --dataset=cifar10`.

Downloads the archives, or adopts those that lie in `--archives`, lets TFDS write the records, checks the numbers of
examples and the labels, and only then puts the dataset in its place.
"""

import pathlib
import sys

from absl import flags

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import command

DATASET = flags.DEFINE_string('dataset', None, 'The dataset to prepare; a wrong name gets the list of them.')
DATA_DIR = flags.DEFINE_string('data_dir', '', "Where prepared datasets lie; '': TFDS's default.")
ARCHIVES = flags.DEFINE_string('archives', None, 'A folder that holds the upstream archives; nothing is downloaded.')
ADOPT = flags.DEFINE_string('adopt', None, 'A directory that TFDS prepared before, to be rewritten as ArrayRecord.')
SHORTER_SIDE = flags.DEFINE_integer('shorter_side', 0, 'imagenet2012: pixels that stored images keep; 0: all.', 0)
EXTRA = flags.DEFINE_bool('extra', True, 'svhn_cropped: with the 531,131 additional training images (1.3 GB).')
PARTIAL = flags.DEFINE_bool('partial', False, 'Accept archives with fewer examples than the published ones.')


def main() -> None:
  """Flags to a request."""
  from cmpe_jax.data import records
  from cmpe_jax.data.datasets import DATASETS
  from cmpe_jax.data.preparation import install

  if DATASET.value not in DATASETS:
    given = '--dataset is missing' if DATASET.value is None else f'--dataset={DATASET.value} cannot be prepared'
    raise UserError(f'{given}: give one of {", ".join(DATASETS)}.')
  request = install.Request(
    folder=pathlib.Path(ARCHIVES.value).expanduser() if ARCHIVES.value else None,
    adopt=pathlib.Path(ADOPT.value).expanduser() if ADOPT.value else None,
    shorter_side=SHORTER_SIDE.value,
    extra=EXTRA.value,
    partial=PARTIAL.value,
  )
  directory = install.prepare(DATASETS[DATASET.value], records.data_dir(DATA_DIR.value), request)
  counts = ', '.join(f'{count:,} {split}' for split, count in records.counts(directory).items())
  print(f'{DATASET.value} is ready in {directory}: {counts}.')


if __name__ == '__main__':
  sys.exit(command.run(main))
