"""Initial values: each rule maps standard normal numbers to a parameter, so that one draw can serve a whole net.

Backbone: He et al. 2015 with fan-out, as the authors do for their ResNets. Gate and classifier: 1/sqrt(fan in).
The rule of a parameter stands where the parameter is declared, as its Flax initializer: `conv_kernel`, `dense_kernel`,
`map_kernel`, `ones`, `zeros`, or another `Initializer`.
"""

import contextlib
import contextvars
import dataclasses
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cmpe_jax.models import paths
from cmpe_jax.models.precision import at_least_float32

Array = Any  # of NumPy and of JAX alike
_declaring = contextvars.ContextVar('declaring', default=False)


@dataclasses.dataclass(frozen=True)
class Initializer:
  """A Flax initializer, called as (key, shape, dtype), whose values `init` can draw without compiling anything.

  Attributes:
    rule: from standard normal numbers of the parameter's shape, NumPy's or JAX's, to its initial value.
    is_constant: the rule does not look at the numbers, but at their shape and type.
  """

  rule: Callable[[Array], Array]
  is_constant: bool = False

  def __call__(self, key: jax.Array | None, shape: Sequence[int], dtype: jax.typing.DTypeLike = jnp.float32) -> Any:
    """The initial value; while `init` asks for shapes, a `Declared` of that shape."""
    if _declaring.get():
      return Declared(jnp.zeros(shape, dtype), self)
    if self.is_constant or key is None:
      return self.rule(jnp.zeros(shape, dtype))
    return self.rule(jax.random.normal(key, tuple(shape), dtype))

  def draw(self, shape: Sequence[int], dtype: jnp.dtype, seed: Sequence[int]) -> np.ndarray:
    """The value by NumPy's Philox: a function of the seed and the shape."""
    if self.is_constant:
      return self.rule(np.zeros(shape, dtype))
    stream = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
    return self.rule(stream.standard_normal(shape)).astype(dtype)


class Declared(flax.struct.PyTreeNode, nn.meta.AxisMetadata):
  """A box around a parameter's value, which Flax opens where the value is used. It carries the initializer."""

  value: Any
  initializer: Initializer = flax.struct.field(pytree_node=False)

  def unbox(self) -> Any:
    """The value."""
    return self.value

  def replace_boxed(self, val: Any) -> 'Declared':
    """Another value."""
    return self.replace(value=val)

  def add_axis(self, index: int, params: dict[Any, Any]) -> 'Declared':
    """A rule knows no axes."""
    return self

  def remove_axis(self, index: int, params: dict[Any, Any]) -> 'Declared':
    """A rule knows no axes."""
    return self


@contextlib.contextmanager
def _declared() -> Iterator[None]:
  token = _declaring.set(True)
  try:
    yield
  finally:
    _declaring.reset(token)


def _fan_out(normal: Array) -> Array:
  kh, kw, _, out = normal.shape
  return normal * (2 / (kh * kw * out)) ** 0.5


def _fan_in(normal: Array) -> Array:
  return normal * normal.shape[0] ** -0.5


def _agreeing(normal: Array) -> Array:
  kh, kw, _, _ = normal.shape
  sums = normal.sum(axis=(0, 1, 2), keepdims=True)
  return normal * (1 - 2 * (sums < 0)) * (kh * kw) ** -0.5


conv_kernel = Initializer(_fan_out)
"""Kernel [kh, kw, in, out] with standard deviation sqrt(2 / (kh * kw * out))."""

dense_kernel = Initializer(_fan_in)
"""Kernel [in, ...] with standard deviation 1/sqrt(in)."""

map_kernel = Initializer(_agreeing)
"""Kernel [kh, kw, 1, m] with standard deviation 1/sqrt(kh * kw), each filter's sum made positive.

Batch normalization keeps little of a map filter but its direction, and the gate sees the mean over the m filters:
filters of opposite signs cancel and the gate would start blind. With positive sums they agree.
"""

zeros = Initializer(lambda zeros: zeros, is_constant=True)
"""All 0."""

ones = Initializer(lambda zeros: zeros + 1, is_constant=True)
"""All 1."""


def init(model: nn.Module, key: jax.Array, image_size: int) -> dict[str, Any]:
  """Initial variables {'params': ..., 'batch_stats': ...} as NumPy arrays, without compiling anything.

  The same distributions as `model.init`, in a fraction of its time: a jitted `init` compiles hundreds of small random
  programs, which takes longer than the training step. Here the key seeds NumPy's Philox, one stream a parameter by the
  CRC of its path: a parameter's value depends on the key, its path and its shape only. A parameter that is declared
  with an initializer of another library is computed by that, and then something compiles.

  Args:
    model: a network of this package, or another one for images.
    key: a `jax.random.key`.
    image_size: side of the square images, in pixels.
  """
  image = _image(model, image_size)
  with _declared():
    tree = jax.eval_shape(lambda k, x: model.init(k, x), key, image)
  tree = {name: tree.get(name, {}) for name in ('params', 'batch_stats')}
  seed = [int(word) for word in np.asarray(jax.random.key_data(key)).ravel()]
  declared = paths.named(tree, is_leaf=lambda x: isinstance(x, Declared))
  foreign = [name for name, leaf in declared.items() if not isinstance(leaf, Declared)]
  computed = _compute(model, key, image, foreign) if foreign else {}

  def value(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
    name = paths.joined(path)
    if name in computed:
      return computed[name]
    return leaf.initializer.draw(leaf.value.shape, leaf.value.dtype, [*seed, zlib.crc32(name.encode())])

  return jax.tree_util.tree_map_with_path(value, tree, is_leaf=lambda x: isinstance(x, Declared))


def shapes(model: nn.Module, image_size: int) -> dict[str, Any]:
  """What `init` gives, as shapes and types; nothing is drawn."""
  tree = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), _image(model, image_size))
  return {name: tree.get(name, {}) for name in ('params', 'batch_stats')}


def _image(model: nn.Module, size: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((1, size, size, 3), at_least_float32(getattr(model, 'dtype', jnp.float32)))


def _compute(model: nn.Module, key: jax.Array, image: Any, names: list[str]) -> dict[str, np.ndarray]:
  """The variables of these names as `model.init` makes them; the compiler leaves out what only the others need."""

  def chosen(key: jax.Array, image: jax.Array) -> dict[str, jax.Array]:
    variables = paths.named(model.init(key, image))
    return {name: variables[name] for name in names}

  return jax.device_get(jax.jit(chosen)(key, jnp.zeros(image.shape, image.dtype)))
