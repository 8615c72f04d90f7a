"""`load_model`: a trained network in one line, for notebooks and tools."""

from typing import Any

import ml_collections

from cmpe_jax import checkpoint as checkpoints_
from cmpe_jax import models


def load_model(workdir: str, checkpoint: str = 'best') -> tuple[Any, dict[str, Any], ml_collections.ConfigDict]:
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
  found = checkpoints_.Checkpoints(workdir)
  try:
    step = found.choose(checkpoint)
    config = found.config(step)
    config.model.scan_blocks = False  # the same network; what looks into its blocks needs them one by one
    return models.build(config.model, dtype=config.dtype), found.variables(step, averaged=config.ema_decay > 0), config
  finally:
    found.close()
