"""Prepares a dataset as ArrayRecord: `python -m cmpe_jax.data.prepare --dataset=cifar10`.

Downloads the archives, or adopts those that lie in `--archives`, lets TFDS write the records, checks the numbers of
examples and the labels, and only then puts the dataset in its place.
"""

import pathlib
import sys

from absl import flags

from cmpe_jax import command
from cmpe_jax.data import datasets, install, prepared

_FLAGS = {
  'dataset': flags.DEFINE_enum('dataset', None, list(datasets.KNOWN), 'The dataset to prepare.', required=True),
  'data_dir': flags.DEFINE_string('data_dir', '', "Where prepared datasets lie; '': TFDS's default."),
  'archives': flags.DEFINE_string(
    'archives', None, 'A folder that holds the upstream archives; nothing is downloaded.'
  ),
  'adopt': flags.DEFINE_string('adopt', None, 'A directory that TFDS prepared before, to be rewritten as ArrayRecord.'),
  'shorter_side': flags.DEFINE_integer('shorter_side', 0, 'imagenet2012: pixels that stored images keep; 0: all.', 0),
  'extra': flags.DEFINE_bool('extra', True, 'svhn_cropped: with the 531,131 additional training images (1.3 GB).'),
  'partial': flags.DEFINE_bool('partial', False, 'Accept archives with fewer examples than the published ones.'),
}


def main() -> None:
  """The command."""
  values = {name: flag.value for name, flag in _FLAGS.items()}
  folder, adopt = (pathlib.Path(values[key]).expanduser() if values[key] else None for key in ('archives', 'adopt'))
  directory = install.prepare(
    values['dataset'],
    prepared.data_dir(values['data_dir']),
    folder,
    adopt,
    values['shorter_side'],
    values['extra'],
    values['partial'],
  )
  counts = ', '.join(f'{count:,} {split}' for split, count in prepared.counts(directory).items())
  print(f'{values["dataset"]} is ready in {directory}: {counts}.')


if __name__ == '__main__':
  sys.exit(command.run(main))
