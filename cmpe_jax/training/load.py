"""`load_model`: a trained network in one line, for notebooks and tools."""

import dataclasses
from typing import Any

import ml_collections

from cmpe_jax.models import builder
from cmpe_jax.models.resnet import ResNet
from cmpe_jax.runtime import start
from cmpe_jax.training import chosen
from cmpe_jax.training.checkpoint import Checkpoints


@dataclasses.dataclass(frozen=True)
class Loaded:
  """What a checkpoint holds of a network.

  Attributes:
    model: the Flax module.
    variables: {'params', 'batch_stats'}, or their moving averages if the run kept them.
    config: of the run.
    class_names: () where an older version did not keep them.
    step: of the checkpoint.
  """

  model: ResNet
  variables: dict[str, Any]
  config: ml_collections.ConfigDict
  class_names: tuple[str, ...]
  step: int


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
  found = read(workdir, checkpoint)
  return found.model, found.variables, found.config


def read(workdir: str, checkpoint: str = 'best') -> Loaded:
  """What `load_model` gives, and more."""

  def load(found: Checkpoints, step: int) -> Loaded:
    config = found.config(step)
    start.types(config.dtype)
    classes = tuple(found.notes(step).get('classes', ()))
    return Loaded(network(config), found.variables(step, averaged=config.ema_decay > 0), config, classes, step)

  return chosen.read(workdir, checkpoint, load)


def network(config: ml_collections.ConfigDict) -> ResNet:
  """The network of a saved configuration, to be used: what looks into its blocks needs them one by one."""
  unrolled = config.model.copy_and_resolve_references()
  unrolled.scan_blocks = False
  return builder.build(unrolled, dtype=config.dtype)
