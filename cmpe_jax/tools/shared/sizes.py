"""How large a network is: parameters, multiplications and activations, by tracing it. Nothing is compiled.

MACs are the multiply-accumulates of an evaluation of one image that convolutions and matrix products need, padding
included; normalizations, ReLUs and whatever else goes element by element is not counted. Activations are the numbers
that convolutions give, as Radosavovic et al. 2020 (arXiv 2003.13678) count them.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import ml_collections
from jax.extend import core
from jax.interpreters.partial_eval import dce_jaxpr

from cmpe_jax.models import blocks, builder, paths
from cmpe_jax.models.precision import at_least_float32
from cmpe_jax.training.state import count

CONVOLUTION, PRODUCT = 'conv_general_dilated', 'dot_general'
HEAD = 'head'


@dataclasses.dataclass(frozen=True)
class Part:
  """The stem, a stage, or the head of a network.

  Attributes:
    name: 'stem', 'stage1', ..., 'head'.
    output: of one image, (height, width, channels) or (classes,).
    blocks: in a stage.
    trainable: parameters that training changes.
    frozen: parameters that `config.freeze` leaves as they are.
    statistics: running means and variances.
    macs: all, of one image.
    gate_macs: those of gates and descriptors.
    activations: of one image.
  """

  name: str
  output: tuple[int, ...]
  blocks: int
  trainable: int
  frozen: int
  statistics: int
  macs: int
  gate_macs: int
  activations: int


def parameters(config: ml_collections.ConfigDict) -> int:
  """Parameters of a resolved configuration. Raises `UserError`: it has no such network."""
  model = builder.build(config.model, config.dtype, platform='cpu')  # all forms have the same
  with jax.enable_x64(config.dtype == 'float64'):
    return count(jax.eval_shape(lambda x: model.init(jax.random.key(0), x), _image(config))['params'])


def parts(config: ml_collections.ConfigDict) -> list[Part]:
  """The parts of the network of a resolved configuration, in order.

  Raises:
    UserError: it has no such network.
  """
  tree, outputs, costs = _trace(config)
  found = []
  for name, (output, depth) in outputs.items():
    values = {'trainable': 0, 'frozen': 0, 'statistics': 0}
    for top, shapes in tree['params'].items():
      if paths.part_of(top) == name:
        fixed = paths.is_frozen(top, config.freeze)
        values['frozen' if fixed else 'trainable'] += count(shapes)
    for top, shapes in tree['batch_stats'].items():
      values['statistics'] += count(shapes) if paths.part_of(top) == name else 0
    own = [(macs, gate, size) for place, macs, gate, size in costs if place == name]
    found.append(
      Part(
        name=name,
        output=output,
        blocks=depth,
        **values,
        macs=sum(macs for macs, _, _ in own),
        gate_macs=sum(macs for macs, gate, _ in own if gate),
        activations=sum(size for _, _, size in own),
      )
    )
  return found


def total(found: list[Part]) -> Part:
  """The whole network."""
  sums = {
    field.name: sum(getattr(part, field.name) for part in found)
    for field in dataclasses.fields(Part)
    if field.type in (int, 'int')
  }
  return Part(name='total', output=found[-1].output, **sums)


def _image(config: ml_collections.ConfigDict) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), at_least_float32(config.dtype))


def _trace(config: ml_collections.ConfigDict) -> tuple[Any, dict[str, Any], list[tuple[str, int, bool, int]]]:
  """Shapes of the variables, {part: (output, blocks)}, and (part, MACs, of a gate, activations) of each product.

  One trace, of the initialization, gives all: it has the products of an evaluation and no others.
  """
  model = builder.build(config.model, config.dtype)

  def captured(module: Any, method: str) -> bool:
    return method == 'embed' or (method == '__call__' and isinstance(module, blocks.Block))

  def call(image: jax.Array) -> Any:
    return model.init_with_output(jax.random.key(0), image, mutable=True, capture_intermediates=captured)

  with jax.enable_x64(config.dtype == 'float64'):
    closed, (logits, tree) = jax.make_jaxpr(call, return_shape=True)(_image(config))
  sown = tree['intermediates']
  outputs = {'stem': (sown['embed'][0].shape[1:], 0)}
  for stage, size in enumerate(model.stage_sizes, 1):
    last, _ = sown[paths.block_name(stage, size - 1)]['__call__'][0]
    outputs[f'stage{stage}'] = (last.shape[1:], size)
  outputs[HEAD] = (logits.shape[1:], 0)
  used = [True] + [False] * (len(closed.jaxpr.outvars) - 1)
  return tree, outputs, list(_products(dce_jaxpr(closed.jaxpr, used)[0]))


def _products(jaxpr: core.Jaxpr, outer: str = '') -> Iterator[tuple[str, int, bool, int]]:
  for equation in jaxpr.eqns:
    kind, path = equation.primitive.name, f'{outer}/{equation.source_info.name_stack}'
    inner = list(core.jaxprs_in_params(equation.params))
    for part in inner[-1:] if kind == 'cond' else inner:  # of forms by platform the last one, the general one
      yield from _products(part, path)
    if kind not in (CONVOLUTION, PRODUCT):
      continue
    operand, kernel = (_shape(value) for value in equation.invars)
    shape, place = _shape(equation.outvars[0]), paths.part_of(path)
    if kind == CONVOLUTION:  # the kernel's: rows, columns, inputs, outputs
      gate = paths.is_of_gate(path)
      yield place, math.prod(shape) * math.prod(kernel[:3]), gate, 0 if gate else math.prod(shape)
    else:
      ((contracted, _), _) = equation.params['dimension_numbers']
      depth = math.prod(operand[axis] for axis in contracted)
      yield place, math.prod(shape) * depth, place != HEAD, 0


def _shape(value: Any) -> tuple[int, ...]:
  return value.aval.shape
