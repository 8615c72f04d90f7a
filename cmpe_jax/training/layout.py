"""Names, types and shapes of the arrays in a tree, and what differs between two trees."""

from typing import Any

from cmpe_jax.errors import UserError
from cmpe_jax.models import paths

Layout = dict[str, str]


def of(tree: Any) -> Layout:
  """{'params/head/kernel': 'float32[64, 10]', ...}"""
  return {name: f'{x.dtype}{list(x.shape)}' for name, x in paths.named(tree).items()}


def check(theirs: Layout, ours: Layout, place: object) -> None:
  """Raises `UserError`, with a list, unless the checkpoint in `place` has the arrays of this configuration."""
  if theirs == ours:
    return
  lines = [f'  - {name} {theirs[name]}' for name in sorted(theirs) if ours.get(name) != theirs[name]]
  lines += [f'  + {name} {ours[name]}' for name in sorted(ours) if theirs.get(name) != ours[name]]
  more = f'\n  ... {len(lines) - 20} more' if len(lines) > 20 else ''
  raise UserError(
    f'the checkpoint {place} is of another model (- the checkpoint, + this configuration):\n'
    + '\n'.join(lines[:20])
    + more
    + '\nUse its configuration, or another --workdir.'
  )
