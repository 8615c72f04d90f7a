"""Fine-tuning: the weights of another run as the first step's."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import jax
import ml_collections
import numpy as np

from cmpe_jax.errors import UserError
from cmpe_jax.models import paths
from cmpe_jax.training.load import load_model


def load(config: ml_collections.ConfigDict, variables: dict[str, Any]) -> tuple[dict[str, Any], str]:
  """Our initial variables with those of the run in `config.init_from` (its best checkpoint) put in, and a report.

  The backbone has to be the same, in every name and shape. Gates are taken if the other run has the same kind of gate,
  and the classifier if it is of the same dataset; else they start new.

  Args:
    config: of this run, resolved.
    variables: {'params', 'batch_stats'} as initialized.

  Returns:
    A tree like `variables`, with its types; and what was loaded, is new, and was skipped, for people.

  Raises:
    UserError: no checkpoint there, or another backbone; the message lists what differs.
  """
  _, theirs, saved = load_model(config.init_from)
  given, ours = paths.named(theirs), paths.named(variables)
  same_gate = all(saved.model[key] == config.model[key] for key in ('gate', 'gate_bias', 'fold_columns'))
  starts_new = {
    name
    for name in ours.keys() | given.keys()
    if (paths.is_of_gate(name) and not same_gate)
    or (f'/{paths.CLASSIFIER}/' in name and saved.dataset != config.dataset)
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
      + '\nSet model.* as that run has it, all but model.gate, or name another run.'
    )
  rows = [
    _row('loaded', wanted, ours),
    _row('new', starts_new & ours.keys(), ours),
    _row('skipped', starts_new & given.keys(), given),
  ]

  def value(path: tuple[Any, ...], leaf: np.ndarray) -> np.ndarray:
    name = paths.joined(path)
    return np.asarray(given[name] if name in wanted else leaf, leaf.dtype)

  return jax.tree_util.tree_map_with_path(value, variables), f'started from {config.init_from}\n' + '\n'.join(
    rows
  ) + '\n'


def _row(title: str, names: Iterable[str], arrays: dict[str, Any]) -> str:
  """A group of the report: number of arrays and values, then the names, those of all blocks as one."""
  names = sorted(names)
  count = sum(int(np.prod(arrays[name].shape)) for name in names)
  alike = Counter(map(paths.every_block, names))
  rows = [f'{title}: {len(names)} arrays, {count:,} values']
  return '\n'.join(rows + [f'  {name}' + (f' ({number})' if number > 1 else '') for name, number in alike.items()])
