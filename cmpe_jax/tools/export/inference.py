"""A trained network as a function of its images alone: normalizations and map filters become constants.

At inference a batch normalization is y = gain * x + offset. Where it follows a convolution directly, the gain goes into
the kernel. The m map filters of a gate and their normalizations are one filter and one offset.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cmpe_jax.models import builder, map_filters
from cmpe_jax.models import inner_imaging as imaging
from cmpe_jax.training import step, trained

# The normalizations of a block that follow a convolution directly, by (block, preact).
FOLLOWS = {
  ('basic', True): {'bn2': 'conv1'},
  ('bottleneck', True): {'bn2': 'conv1', 'bn3': 'conv2'},
  ('basic', False): {'bn1': 'conv1', 'bn2': 'conv2', 'shortcut_bn': 'shortcut'},
  ('bottleneck', False): {'bn1': 'conv1', 'bn2': 'conv2', 'bn3': 'conv3', 'shortcut_bn': 'shortcut'},
}
Tree = dict[str, Any]
Constants = dict[tuple[str, ...], tuple[np.ndarray | None, np.ndarray]]


def function(run: trained.Trained) -> Callable[[jax.Array], jax.Array]:
  """uint8[N, H, W, 3] -> logits float32[N, classes], N of any size, symbolic too; computed in float32."""
  run = trained.single_precision(run)
  config = run.config.model.copy_and_resolve_references()
  config.gate_form = 'fused'
  config.scan_blocks = False  # each block's constants are found by the path of its modules
  model = builder.build(config, platform='cpu')  # one program for all; what `fold` does here, a GPU's form would do
  params, constants = fold(run.variables, config)

  def apply_folded(call: Callable, arguments: tuple, keywords: Tree, context: nn.module.InterceptorContext) -> Any:
    module = context.module
    if context.method_name != '__call__' or module.path not in constants:
      return call(*arguments, **keywords)
    gain, offset = constants[module.path]
    if isinstance(module, map_filters.CollapsedNorm):
      image, kernel = arguments
      return (imaging.apply_filter(image[None], jnp.asarray(gain), kernel.shape[:2]) + offset)[0]
    normed = [x + offset if gain is None else x * gain + offset for x in arguments]
    return normed[0] if len(normed) == 1 else tuple(normed)

  def call(images: jax.Array) -> jax.Array:
    with nn.intercept_methods(apply_folded):
      return step.logits(run.config, model, {'params': params}, run.normalize(images))

  return call


def fold(variables: Tree, config: Any) -> tuple[Tree, Constants]:
  """Parameters whose kernels hold the gains, and what is left of each normalization, by the path of its module.

  Args:
    variables: {'params', 'batch_stats'}.
    config: the keys of `cmpe_jax.keys.MODEL`.

  Returns:
    The parameters, float32, and (gain or None, offset) each normalization; of a gate's (filter [1, T], offset [1]).
  """
  params, stats = (
    jax.tree.map(lambda x: np.asarray(x, np.float64), variables[key]) for key in ('params', 'batch_stats')
  )
  follows = FOLLOWS[config.block, config.preact]
  constants: Constants = {}

  def walk(statistics: Tree, parameters: Tree, path: tuple[str, ...], kernels: dict[str, str]) -> None:
    for name, inner in statistics.items():
      place, own = (*path, name), parameters.get(name, {})
      if 'mean' not in inner:
        walk(inner, own, place, follows if name != 'gate' else {})
        continue
      gain = own.get('scale', 1) / np.sqrt(inner['var'] + imaging.EPSILON)
      offset = own.get('bias', 0) - gain * inner['mean']
      if name == 'map_bn':
        kernel = parameters['map_conv']['kernel']
        one = (kernel * gain).mean(-1).reshape(1, -1)
        constants[place] = _single(one), _single(offset.mean(keepdims=True))
      elif name in kernels:
        parameters[kernels[name]]['kernel'] *= gain
        constants[place] = None, _single(offset)
      else:
        constants[place] = _single(gain), _single(offset)

  walk(stats, params, (), {'stem_bn': 'stem'})
  return jax.tree.map(_single, params), constants


def _single(x: np.ndarray) -> np.ndarray:
  return np.asarray(x, np.float32)
