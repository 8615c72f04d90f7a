"""The last convolution of a bottleneck, 1x1 from few channels to four times as many, before it is computed.

Two things are known of its output y = x @ W without it, so that y, normalized and scaled, is never a map of its own:

* its statistics over a batch, from the mean and the covariance of x, which has a quarter of its channels,
* its product with a scale, s * (x @ W) = x @ (s * W): one small kernel an example.
"""

import dataclasses

import jax
import jax.numpy as jnp

from cmpe_jax.models.groups import example_rows
from cmpe_jax.models.precision import at_least_float32, of_products

Array = jax.Array
HIGHEST = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class Expansion:
  """gain * (x @ kernel - mean @ kernel) + offset, or x @ kernel alone, before anything of its size is computed.

  Attributes:
    x: [N, H, W, c], the input of the convolution.
    kernel: [c, C], of parameters' type.
    pooled: [N, c], mean_HW(x).
    mean: [G, c], of x; G groups of consecutive examples, each with statistics of its own. None: nothing is subtracted.
    gain: [G, C]. None: not normalized.
    offset: [C], or [G, C].
  """

  x: Array
  kernel: Array
  pooled: Array
  mean: Array | None = None
  gain: Array | None = None
  offset: Array | None = None

  @property
  def shape(self) -> tuple[int, ...]:
    """[N, H, W, C], of the output."""
    return (*self.x.shape[:-1], self.kernel.shape[-1])

  @property
  def dtype(self) -> jnp.dtype:
    """That the computed output is to have."""
    return self.x.dtype

  def moments(self, means: Array) -> tuple[Array, Array]:
    """Mean and biased variance [G, C] of x @ kernel in groups of consecutive examples; `means` [G, c]: those of x.

    mean(x @ W) = mean(x) @ W and var(x @ W) = diag(W' S W), S the covariance of x. x is centered before it is squared:
    it comes from a ReLU, so that E[xx'] - mean mean' would cancel.
    """
    kernel = self.kernel.astype(self.dtype).astype(self.kernel.dtype)  # the rounded one has these moments
    variance = jnp.einsum('gcd,cf,df->gf', _covariance(self.x, means), kernel, kernel, precision=HIGHEST)
    return jnp.matmul(means, kernel, precision=HIGHEST), jnp.maximum(variance, 0)

  def scaled(self, scale: Array | None = None) -> Array:
    """`scale` [N, C] times the output, [N, H, W, C], in at least float32 if it is normalized, else in x's type.

    With an example's own kernel K = scale * gain * W the offset is scale * offset - mean @ K, from the rounded K:
    otherwise all pixels shared an error.
    """
    factor: Array | None
    shift: Array | None
    if self.gain is None or self.offset is None:
      factor, shift = scale, None
    else:
      factor, shift = (self._rows(self.gain), self._rows(self.offset))
      if scale is not None:
        factor, shift = scale * factor, scale * shift
    kernel = self.kernel if factor is None else factor[:, None] * self.kernel
    kernel = kernel.astype(self.dtype)
    y = _product(self.x, kernel)
    if shift is None:
      return y
    if self.mean is not None:
      rounded = kernel.astype(self.kernel.dtype)
      shift = shift - jnp.einsum('nc,ncf->nf', self._rows(self.mean), rounded, precision=HIGHEST)
    return y.astype(self.kernel.dtype) + shift[:, None, None]

  def _rows(self, values: Array) -> Array:
    """[G, ...] -> [N, ...], each group's row for each of its examples; one row, if all are alike, remains one."""
    if values.ndim == 1:
      return values[None]
    return values if len(values) == 1 else example_rows(values, len(self.x))


def _product(x: Array, kernel: Array) -> Array:
  """x [N, H, W, c] times a kernel [c, C], or [1, c, C], or one an example [N, c, C]."""
  precision = of_products(x)
  if kernel.ndim == 2 or len(kernel) == 1:
    return jnp.einsum('nhwc,cf->nhwf', x, kernel.reshape(kernel.shape[-2:]), precision=precision)
  return jnp.einsum('nhwc,ncf->nhwf', x, kernel, precision=precision)


def _covariance(x: Array, means: Array) -> Array:
  """[N, H, W, c], [G, c] -> [G, c, c], biased, of each group, in at least float32.

  Exact for whatever is subtracted: what rounding leaves of the mean is taken off afterwards.
  """
  shift = jax.lax.stop_gradient(means).astype(x.dtype)
  centered = x.reshape(len(means), -1, x.shape[-1]) - shift[:, None]
  precision, kind = of_products(x), at_least_float32(x.dtype)
  products = jnp.einsum('gpc,gpd->gcd', centered, centered, precision=precision, preferred_element_type=kind)
  rest = means - shift.astype(kind)
  return products / centered.shape[1] - rest[:, :, None] * rest[:, None]


@jax.custom_vjp
def relu_and_mean(x: Array) -> tuple[Array, Array]:
  """relu(x) [N, H, W, C] and its channel means [N, C], such that only relu(x) is kept for the gradient.

  `nn.relu` keeps x, and XLA then writes both.
  """
  y = jnp.maximum(x, 0)
  # A mean that goes on into a gate's own operations would be computed with them, from a second reading of y.
  return y, jax.lax.optimization_barrier(jnp.mean(y, axis=(1, 2), dtype=at_least_float32(x.dtype)))


def _relu_forward(x: Array) -> tuple[tuple[Array, Array], Array]:
  y, mean = relu_and_mean(x)
  y = jax.lax.optimization_barrier(y)  # or XLA keeps x after all and takes the maximum anew wherever y is read
  return (y, mean), y


def _relu_backward(y: Array, gradients: tuple[Array, Array]) -> tuple[Array]:
  of_y, of_mean = gradients
  pixels = y.shape[1] * y.shape[2]
  total = of_y.astype(of_mean.dtype) + (of_mean / pixels)[:, None, None]
  return (jnp.where(y > 0, total, 0).astype(y.dtype),)


relu_and_mean.defvjp(_relu_forward, _relu_backward)
