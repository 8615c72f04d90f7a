"""Fine-tuning: the weights of another run, or such as travel, as the first step's."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import jax
import ml_collections
import numpy as np

from cmpe_jax.data import classes, datasets
from cmpe_jax.errors import UserError
from cmpe_jax.models import paths
from cmpe_jax.runtime import places
from cmpe_jax.training import load as saved_runs
from cmpe_jax.training import pretrained


def load(config: ml_collections.ConfigDict, variables: dict[str, Any]) -> tuple[dict[str, Any], str]:
  """Our initial variables with those that `config.init_from` names put in, and a report.

  The backbone has to be the same, in every name and shape. Gates are taken if they are of the same kind, and the
  classifier if it is of the same dataset (of folders of images: if the classes have the same names, wherever the folder
  lies); else they start new.

  Args:
    config: of this run, resolved.
    variables: {'params', 'batch_stats'} as initialized.

  Returns:
    A tree like `variables`, with its types; and what was loaded, is new, and was skipped, for people.

  Raises:
    UserError: no weights there, or another backbone; the message lists what differs.
    Interrupted: the Hub did not answer.
  """
  theirs, saved, same_classes = _other(config)
  given, ours = paths.named(theirs), paths.named(variables)
  same_gate = all(saved.model[key] == config.model[key] for key in ('gate', 'gate_bias', 'fold_columns'))
  starts_new = {
    name
    for name in ours.keys() | given.keys()
    if (paths.is_of_gate(name) and not same_gate) or (f'/{paths.CLASSIFIER}/' in name and not same_classes)
  }
  wanted = ours.keys() - starts_new
  lines = [f'  - {name} {list(ours[name].shape)} (missing there)' for name in sorted(wanted - given.keys())]
  lines += [f'  + {name} {list(given[name].shape)}' for name in sorted(given.keys() - ours.keys() - starts_new)]
  lines += [
    f'  {name}: {list(given[name].shape)} there, {list(ours[name].shape)} here'
    for name in sorted(wanted & given.keys())
    if given[name].shape != ours[name].shape
  ]
  if lines:
    raise UserError(
      f'init_from={config.init_from!r} holds another network:\n'
      + '\n'.join(lines)
      + '\nSet model.* as it was there, all but model.gate, or name other weights.'
    )
  rows = [
    f'started from {config.init_from}',
    _row('loaded', wanted, ours),
    _row('new', starts_new & ours.keys(), ours),
    _row('skipped', starts_new & given.keys(), given),
    *_shown(config, saved),
  ]

  def value(path: tuple[Any, ...], leaf: np.ndarray) -> np.ndarray:
    name = paths.joined(path)
    return np.asarray(given[name] if name in wanted else leaf, leaf.dtype)

  return jax.tree_util.tree_map_with_path(value, variables), '\n'.join(rows) + '\n'


def _other(config: ml_collections.ConfigDict) -> tuple[dict[str, Any], ml_collections.ConfigDict, bool]:
  """The variables and the configuration of `init_from`, and whether its classes are ours.

  A workdir gives those of its best checkpoint.
  """
  place = places.place(config.init_from)
  if places.is_bucket(place) or (place / 'checkpoints').exists():
    loaded = saved_runs.read(config.init_from)
    return loaded.variables, loaded.config, _same_classes(loaded.config, loaded.class_names, config)
  found = pretrained.read(pretrained.find(config.init_from, others='a workdir with checkpoints, '))
  return found.variables, found.config, _same_classes(found.config, found.class_names, config)


def _same_classes(saved: ml_collections.ConfigDict, names: tuple[str, ...], config: ml_collections.ConfigDict) -> bool:
  """Whether a classifier fits to the configuration's dataset; `names`: of its classes, () where they are not known."""
  if names and datasets.are_folders(saved, config):
    return classes.same(names, datasets.describe(config).class_names)
  return saved.dataset == config.dataset and saved.model.num_classes == config.model.num_classes


def _shown(config: ml_collections.ConfigDict, saved: ml_collections.ConfigDict) -> list[str]:
  """A line if the weights have seen images that were normalized in another way."""
  (mean, std), theirs = (datasets.normalization(each) for each in (config, saved))
  if (mean, std) == theirs:
    return []
  return [
    f'normalized by mean {mean} and deviation {std}; these weights were trained with {theirs[0]} and '
    f'{theirs[1]}, which pixel_mean and pixel_std can set'
  ]


def _row(title: str, names: Iterable[str], arrays: dict[str, Any]) -> str:
  """A group of the report: number of arrays and values, then the names, those of all blocks as one."""
  names = sorted(names)
  count = sum(int(np.prod(arrays[name].shape)) for name in names)
  alike = Counter(map(paths.every_block, names))
  rows = [f'{title}: {len(names)} arrays, {count:,} values']
  return '\n'.join(rows + [f'  {name}' + (f' ({number})' if number > 1 else '') for name, number in alike.items()])
