"""Competitive Inner-Imaging Squeeze-and-Excitation (CMPE-SE) for residual networks, in JAX and Flax."""

import importlib
from typing import Any

__version__ = '1.1.0'

# What a program of one's own starts from, imported when first used: `import cmpe_jax` itself costs nothing.
_LATE = {
  'evaluate': 'cmpe_jax.training.evaluate',
  'from_pretrained': 'cmpe_jax.training.trained',
  'load_model': 'cmpe_jax.training.load',
  'save_pretrained': 'cmpe_jax.training.publish',
  'train': 'cmpe_jax.training.train',
}


def __getattr__(name: str) -> Any:
  if name in ('config', 'models'):
    return importlib.import_module(f'cmpe_jax.{name}')
  if name in _LATE:
    return getattr(importlib.import_module(_LATE[name]), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
  return sorted([*globals(), *_LATE, 'config', 'models'])
