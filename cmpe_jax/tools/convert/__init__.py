"""Weights from elsewhere: `from_gluon` reads the authors' parameter files, `from_timm` PyTorch state dicts."""

import importlib
from typing import Any

_LATE = {'from_gluon': 'cmpe_jax.tools.convert.gluon', 'from_timm': 'cmpe_jax.tools.convert.timm'}


def __getattr__(name: str) -> Any:
  if name in _LATE:
    return getattr(importlib.import_module(_LATE[name]), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
