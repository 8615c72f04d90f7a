"""`load_model`: a trained network in one line, for notebooks and tools."""

import contextlib
from typing import Any

import ml_collections

from cmpe_jax.models import builder
from cmpe_jax.models.resnet import ResNet
from cmpe_jax.training.checkpoint import Checkpoints


def load_model(workdir: str, checkpoint: str = 'best') -> tuple[ResNet, dict[str, Any], ml_collections.ConfigDict]:
  """The network of a training run: `model, variables, config = load_model('runs/digits')`.

  Args:
    workdir: where the run wrote.
    checkpoint: 'best' (highest validation accuracy; the newest if nothing was held out) or 'newest'.

  Returns:
    The Flax module; its variables {'params', 'batch_stats'} (their moving averages if the run kept them), so that
    `model.apply(variables, images, train=False)` gives logits [N, classes] for normalized images [N, H, W, 3]; and
    the run's configuration.

  Raises:
    UserError: no complete checkpoint there.
  """
  return read(workdir, checkpoint)[:3]


def read(
  workdir: str, checkpoint: str = 'best'
) -> tuple[ResNet, dict[str, Any], ml_collections.ConfigDict, tuple[str, ...]]:
  """What `load_model` gives, and the names of the classes; () where an older version did not keep them."""
  with contextlib.closing(Checkpoints(workdir)) as found:
    step = found.choose(checkpoint)
    config = found.config(step)
    classes = tuple(found.notes(step).get('classes', ()))
    return network(config), found.variables(step, averaged=config.ema_decay > 0), config, classes


def network(config: ml_collections.ConfigDict) -> ResNet:
  """The network of a saved configuration, to be used: what looks into its blocks needs them one by one."""
  unrolled = config.model.copy_and_resolve_references()
  unrolled.scan_blocks = False
  return builder.build(unrolled, dtype=config.dtype)
