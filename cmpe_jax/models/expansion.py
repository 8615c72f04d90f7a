"""The last convolution of a bottleneck, 1x1 from few channels to four times as many, before it is computed.

Two things are known of its output y = x @ W without it, so that y, normalized and scaled, is never a map of its own:

* its statistics over a batch, from the mean and the covariance of x, which has a quarter of its channels,
* its product with a scale, s * (x @ W) = x @ (s * W): one small kernel an example.

It is computed as a product of matrices with a kernel an example, or, where compilers give convolutions an epilogue, as
one with the kernel of all examples.
"""

import dataclasses

import jax
import jax.numpy as jnp

from cmpe_jax.models.convolution import convolution
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
    convolves: it is a convolution, unless groups have statistics of their own.
  """

  x: Array
  kernel: Array
  pooled: Array
  mean: Array | None = None
  gain: Array | None = None
  offset: Array | None = None
  convolves: bool = False

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
    covariance = _covariance(self.x, means, self._shares_kernel(means))
    variance = jnp.einsum('gcd,cf,df->gf', covariance, kernel, kernel, precision=HIGHEST)
    return jnp.matmul(means, kernel, precision=HIGHEST), jnp.maximum(variance, 0)

  def scaled(self, scale: Array | None = None) -> Array:
    """`scale` [N, C] times the output, [N, H, W, C], in at least float32, or in x's type if it is not normalized."""
    shares = self._shares_kernel(self.gain)
    kernel, offset = self._affine(None if shares else scale)
    if not shares:
      y = _product(self.x, kernel)
    elif scale is None:
      y = convolution(self.x, kernel[None])
    else:
      y, offset = _scaled_convolution(self.x, kernel[None], scale), None if offset is None else scale * offset
    return y if offset is None else y.astype(self.kernel.dtype) + offset[:, None, None]

  def _shares_kernel(self, of_groups: Array | None) -> bool:
    """Whether it is a convolution, with one kernel for all examples: statistics [G, ...] are not of several groups."""
    return self.convolves and (of_groups is None or len(of_groups) == 1)

  def _affine(self, scale: Array | None) -> tuple[Array, Array | None]:
    """The kernel and the offset that give `scale` times the output, each of all examples (first axis 1) or of each.

    With an example's own kernel K = scale * gain * W the offset is scale * offset - mean @ K, from the rounded K:
    otherwise all pixels shared an error.
    """
    factor: Array | None
    offset: Array | None
    if self.gain is None or self.offset is None:
      factor, offset = scale, None
    else:
      factor, offset = (self._rows(self.gain), self._rows(self.offset))
      if scale is not None:
        factor, offset = scale * factor, scale * offset
    kernel = self.kernel[None] if factor is None else factor[:, None] * self.kernel
    kernel = kernel.astype(self.dtype)
    if offset is not None and self.mean is not None:
      rounded = kernel.astype(self.kernel.dtype)
      offset = offset - jnp.einsum('nc,ncf->nf', self._rows(self.mean), rounded, precision=HIGHEST)
    return kernel, offset

  def _rows(self, values: Array) -> Array:
    """[G, ...] -> [N, ...], each group's row for each of its examples; one row, if all are alike, remains one."""
    if values.ndim == 1:
      return values[None]
    return values if len(values) == 1 else example_rows(values, len(self.x))


def _product(x: Array, kernel: Array) -> Array:
  """x [N, H, W, c] times a kernel [1, c, C], or one an example [N, c, C]."""
  precision = of_products(x)
  if len(kernel) == 1:
    return jnp.einsum('nhwc,cf->nhwf', x, kernel[0], precision=precision)
  return jnp.einsum('nhwc,ncf->nhwf', x, kernel, precision=precision)


@jax.custom_vjp
def _scaled_convolution(x: Array, kernel: Array, scale: Array) -> Array:
  """scale [N, C] times `convolution(x, kernel)`, in the type of the scale; its gradient computes that again.

  So a residual is never an array: the pass that sums dy * y for the scale's gradient reads x, a quarter of its size.
  """
  return scale[:, None, None] * convolution(x, kernel).astype(scale.dtype)


def _scaled_backward(kept: tuple[Array, Array, Array], dy: Array) -> tuple[Array, Array, Array]:
  x, kernel, scale = kept
  _, of_convolution = jax.vjp(convolution, x, kernel)
  dx, dkernel = of_convolution((scale[:, None, None] * dy).astype(x.dtype))
  # Of the same kernel XLA would keep the first convolution after all. It takes barriers away too early; + 0 it leaves.
  again = convolution(x, kernel + 0 * dkernel)
  return dx, dkernel, (dy * again.astype(dy.dtype)).sum((1, 2))


_scaled_convolution.defvjp(lambda *inputs: (_scaled_convolution(*inputs), inputs), _scaled_backward)


def _covariance(x: Array, means: Array, convolves: bool) -> Array:
  """[N, H, W, c], [G, c] -> [G, c, c], biased, of each group, in at least float32; `convolves`, of one group only.

  Exact for whatever is subtracted: what rounding leaves of the mean is taken off afterwards.
  """
  shift = jax.lax.stop_gradient(means).astype(x.dtype)
  centered = x.reshape(len(means), -1, x.shape[-1]) - shift[:, None]
  precision, kind = of_products(x), at_least_float32(x.dtype)
  if convolves:
    products = _square(centered.reshape(x.shape))[None]
  else:
    products = jnp.einsum('gpc,gpd->gcd', centered, centered, precision=precision, preferred_element_type=kind)
  rest = means - shift.astype(kind)
  return products / centered.shape[1] - rest[:, :, None] * rest[:, None]


@jax.custom_vjp
def _square(x: Array) -> Array:
  """x' x of the pixels of [N, H, W, c] as a convolution of x with itself: [c, c], in at least float32.

  So a kernel's gradient is computed too, in layouts that a TPU prefers. The gradient is a 1x1 convolution by dy + dy'.
  """
  numbers, kind = ('CHWN', 'IHWO', 'NHWC'), at_least_float32(x.dtype)
  y = jax.lax.conv_general_dilated(
    x, x, (1, 1), 'VALID', dimension_numbers=numbers, precision=of_products(x), preferred_element_type=kind
  )
  return y[:, 0, 0]


_square.defvjp(lambda x: (_square(x), x), lambda x, dy: (convolution(x, (dy + dy.T)[None, None].astype(x.dtype)),))


@jax.custom_vjp
def relu_and_mean(x: Array) -> tuple[Array, Array]:
  """relu(x) [N, H, W, C] and its channel means [N, C], such that only relu(x) is kept for the gradient.

  `nn.relu` keeps x, and XLA then writes both.
  """
  return _with_mean(jnp.maximum(x, 0))


def plain_relu_and_mean(x: Array) -> tuple[Array, Array]:
  """The same with JAX's own derivatives, for inference, where nothing is kept: they have a forward mode."""
  return _with_mean(jax.nn.relu(x))


def _with_mean(y: Array) -> tuple[Array, Array]:
  # A mean that goes on into a gate's own operations would be computed with them, from a second reading of y.
  return y, jax.lax.optimization_barrier(jnp.mean(y, axis=(1, 2), dtype=at_least_float32(y.dtype)))


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
