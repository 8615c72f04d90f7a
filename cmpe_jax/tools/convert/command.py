"""Reads weights from elsewhere into a network and writes the checkpoint of step 0, which training goes on from."""

from collections.abc import Callable
from typing import Any

import ml_collections

from cmpe_jax import keys
from cmpe_jax.config import check
from cmpe_jax.data import datasets
from cmpe_jax.errors import check_choice
from cmpe_jax.runtime import printing, start
from cmpe_jax.tools.convert import timm
from cmpe_jax.tools.convert.gluon import from_gluon
from cmpe_jax.training import initial
from cmpe_jax.training.state import count

READERS: dict[str, Callable[[str, ml_collections.ConfigDict], dict[str, Any]]] = {
  'gluon': from_gluon,
  'timm': timm.from_timm,
}


def main(kind: str, path: str, config: ml_collections.ConfigDict, workdir: str) -> None:
  """Reads `path` into the network of `config` and writes it into `workdir` as step 0.

  What timm's config.json beside the file says of the images takes the place of keys that have their defaults.

  Raises:
    UserError: unknown kind; a file that is not this network's; a workdir that has checkpoints or cannot be written.
  """
  check_choice('the first argument', kind, tuple(READERS))
  if kind == 'timm':
    path = timm.file(path)
    found = timm.described(path)
    config = config.copy_and_resolve_references()
    config.update({name: value for name, value in found.items() if config[name] == keys.KEYS[name].default})
  check(config)
  start.jax(config.dtype)
  resolved = datasets.describe(config).resolve(config)
  variables = READERS[kind](path, resolved.model)
  initial.write(workdir, resolved, variables)
  printing.line(f'{path}: {count(variables["params"]):,} parameters -> {workdir}, step 0')
  if resolved.architecture:
    shown = (f'{name}={resolved[name]}' for name in keys.SHOWN if resolved[name] != keys.KEYS[name].default)
    printing.line(', '.join(shown))
