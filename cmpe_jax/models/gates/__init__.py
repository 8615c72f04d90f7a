"""The gates: from the descriptors of residual and identity to the channel scale, one file an idea.

`make('pair_1x1', channels=64)` gives one for any Flax network. The table of their names is `cmpe_jax.names.GATES`.
"""

import importlib
from typing import Any

from cmpe_jax import names
from cmpe_jax.errors import check_choice, check_range
from cmpe_jax.models.gates.gate import Gate


def find(name: str) -> type[Gate] | None:
  """The class of a gate; None for 'none'. Raises `UserError` for an unknown name."""
  check_choice('gate', name, tuple(names.GATES))
  if not names.GATES[name]:
    return None
  module, _, kind = names.GATES[name].rpartition('.')
  return getattr(importlib.import_module(f'{__name__}.{module}'), kind)


def make(gate: str, /, channels: int, **attributes: Any) -> Gate:
  """A gate to be called as gate(u, v, train) -> s, all [N, channels], inside a Flax module.

  Args:
    gate: its name in `cmpe_jax.names.GATES`; not 'none'.
    channels: of the feature maps that it scales.
    **attributes: of `Gate`, such as base_width or use_bias, and of a Flax module, such as name; columns=0: the default.

  Raises:
    UserError: an unknown name, or channels that such a gate cannot have.
  """
  check_choice('gate', gate, tuple(other for other in names.GATES if names.GATES[other]))
  check_range('channels', channels, 1)
  if attributes.get('columns') == 0:  # as in a configuration
    del attributes['columns']
  kind = find(gate)
  assert kind
  made = kind(channels=channels, **attributes)
  made.check_shape(channels, made.columns)
  return made
