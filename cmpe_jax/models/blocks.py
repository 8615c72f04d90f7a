"""Residual blocks with a gate: y = identity + gate(u, v) * residual.

A block receives ready-made `conv`, `norm` and `gate` and is called as block(x, v) -> (y, descriptor of y or None).
There `v` is the descriptor of `x` if the block before it could hand one on, else None.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from cmpe_jax.models import initializers
from cmpe_jax.models.descriptors import Descriptors
from cmpe_jax.models.expansion import Expansion, plain_relu_and_mean, relu_and_mean
from cmpe_jax.models.norms import Normalized

Array = jax.Array
Branch = Array | Normalized | Expansion


def scaled(branch: Branch, scale: Array | None = None) -> Array:
  """scale * branch, or the branch itself: [N, H, W, C], scale [N, C]."""
  if isinstance(branch, Array):
    return branch if scale is None else scale[:, None, None] * branch
  return branch.scaled(scale)


class Block(nn.Module):
  """What all blocks share.

  Attributes:
    base_width: c, of the stage.
    channels: C, of the output: c in basic blocks, 4c in bottlenecks.
    strides: of the 3x3 convolution that strides and of the projection.
    project: whether the shortcut is a 1x1 convolution.
    conv: conv(features, kernel_size, strides, name=) -> a `Conv`.
    norm: norm(name=) -> a `BatchNorm`.
    gate: gate(channels=, base_width=, name=) -> a gate, or None: a plain residual block.
    descriptors: how u and v are obtained.
    train: batch statistics and dropout.
    dropout: rate between the two convolutions of a basic pre-activation block.
    zero_scale: the last batch normalization of a post-activation branch starts with scale 0.
  """

  base_width: int
  channels: int
  strides: int
  project: bool
  conv: Callable[..., Any]
  norm: Callable[..., Any]
  gate: Callable[..., Any] | None
  descriptors: Descriptors
  train: bool
  dropout: float = 0.0
  zero_scale: bool = False

  def opened(self, x: Array) -> tuple[Array, Array]:
    """relu(bn1(x)) of a pre-activation block, and x for its identity."""
    norm = self.norm(name='bn1')
    a, x = norm(x, settled=True) if self.descriptors.settle else (norm(x), x)
    return nn.relu(a), x

  def identity_or_projection(self, x: Array, v: Array | None, a: Array) -> tuple[Array, Array, Array]:
    """The shortcut and its descriptor in a pre-activation block, and a = relu(bn1(x)) to go on with.

    The shortcut is x itself, or the projection of a.
    """
    if not self.project:
      return x, self.descriptors.of_identity(x, v), a
    a, sums = self.descriptors.summed(a, (self.strides,) * 2)
    identity, v = self.conv(self.channels, 1, self.strides, name='shortcut')(a, with_descriptor=True, sums=sums)
    return self.descriptors.projected(identity), v, a

  def compete(self, identity: Branch, v: Array, residual: Branch, u: Array) -> tuple[Array, Array | None]:
    """identity + s * residual and its descriptor, s = gate(u, v)."""
    if self.gate is None:
      return (scaled(identity) + scaled(residual)).astype(residual.dtype), None
    scale = self.gate(channels=self.channels, base_width=self.base_width, name='gate')(u, v, self.train)
    for name, value in (('u', u), ('v', v), ('scale', scale)):
      self.sow('intermediates', name, value)
    # In training the sum, and so the sums of its gradient, are in float32. In inference XLA would hand such a sum on to
    # the next block before it is rounded, twice the bytes of bfloat16.
    factor = scale if self.train or isinstance(residual, Expansion) else scale.astype(residual.dtype)
    total = scaled(identity) + scaled(residual, factor)
    return total.astype(residual.dtype), self.descriptors.of_sum(v, scale, u)


class PreactBasic(Block):
  """Pre-activation basic block (ResNet-110, Wide ResNet): r = conv3x3(relu(bn2(conv3x3(relu(bn1(x))))))."""

  @nn.compact
  def __call__(self, x: Array, v: Array | None = None) -> tuple[Array, Array | None]:
    """[N, H, W, in] -> [N, H/strides, W/strides, C], and its descriptor [N, C] or None."""
    a, x = self.opened(x)
    identity, v, a = self.identity_or_projection(x, v, a)
    b = self.conv(self.channels, 3, self.strides, name='conv1')(a, normalized=True)
    b = nn.relu(self.norm(name='bn2')(b))
    b = nn.Dropout(self.dropout, deterministic=not self.train)(b)
    residual, u = self.conv(self.channels, 3, name='conv2')(b, with_descriptor=True)
    return self.compete(identity, v, residual, u)


class PreactBottleneck(Block):
  """Pre-activation bottleneck (ResNet-164): 1x1 to c, 3x3 with the stride, 1x1 to 4c, each after bn and relu."""

  @nn.compact
  def __call__(self, x: Array, v: Array | None = None) -> tuple[Array, Array | None]:
    """[N, H, W, in] -> [N, H/strides, W/strides, 4c], and its descriptor [N, 4c] or None."""
    a, x = self.opened(x)
    identity, v, a = self.identity_or_projection(x, v, a)
    b = self.conv(self.base_width, 1, name='conv1')(a, normalized=True)
    b = nn.relu(self.norm(name='bn2')(b))
    b = self.conv(self.base_width, 3, self.strides, name='conv2')(b, normalized=True)
    b = nn.relu(self.norm(name='bn3')(b))
    residual, u = self.conv(self.channels, 1, name='conv3')(b, with_descriptor=True)
    return self.compete(identity, v, residual, u)


class Post(Block):
  """Post-activation: batch normalization after every convolution, relu after the sum."""

  def normed(self, x: Array, features: int, kernel_size: int, strides: int, number: str) -> Array:
    """relu(bn(conv(x)))."""
    x = self.conv(features, kernel_size, strides, name=f'conv{number}')(x, normalized=True)
    return nn.relu(self.norm(name=f'bn{number}')(x))

  def described(self, x: Array, kernel_size: int, strides: int, conv_name: str, norm_name: str) -> tuple[Branch, Array]:
    """bn(conv(x)) and its descriptor: the affine map, by the same statistics, of the convolution's descriptor."""
    conv = self.conv(self.channels, kernel_size, strides, name=conv_name)
    last = conv_name != 'shortcut'
    init = initializers.zeros if self.zero_scale and last else initializers.ones
    norm = self.norm(name=norm_name, scale_init=init)
    if self.gate is None and not self.descriptors.expand:
      y = norm(conv(x, normalized=True))
      return y, self.descriptors.of_identity(y, None)
    y, descriptor = conv(x, with_descriptor=True)
    # Without a gate there is nothing to share: a ResNet-50 would train on 1 % more bytes.
    if self.descriptors.defer and self.train and self.gate is not None and not isinstance(y, Expansion):
      return norm(y, deferred=True)
    return norm(y, descriptor)

  def finish(self, x: Array, v: Array | None, residual: Branch, u: Array) -> tuple[Array, Array | None]:
    """relu(identity + s * residual)."""
    identity: Branch
    if self.project:
      identity, v = self.described(x, 1, self.strides, 'shortcut', 'shortcut_bn')
    else:
      identity, v = x, self.descriptors.of_identity(x, v)
    total, _ = self.compete(identity, v, residual, u)
    if self.descriptors.carry_relu:
      return (relu_and_mean if self.train else plain_relu_and_mean)(total)
    return nn.relu(total), None


class PostBasic(Post):
  """ResNet-18/34 (He et al. 2015): r = bn2(conv3x3(relu(bn1(conv3x3(x)))))."""

  @nn.compact
  def __call__(self, x: Array, v: Array | None = None) -> tuple[Array, Array | None]:
    """[N, H, W, in] -> [N, H/strides, W/strides, C], and its descriptor [N, C] or None."""
    b = self.normed(x, self.channels, 3, self.strides, '1')
    residual, u = self.described(b, 3, 1, 'conv2', 'bn2')
    return self.finish(x, v, residual, u)


class PostBottleneck(Post):
  """ResNet v1.5 bottleneck: 1x1 to c, 3x3 with the stride, 1x1 to 4c, batch normalization after each."""

  @nn.compact
  def __call__(self, x: Array, v: Array | None = None) -> tuple[Array, Array | None]:
    """[N, H, W, in] -> [N, H/strides, W/strides, 4c], and its descriptor [N, 4c] or None."""
    b = self.normed(x, self.base_width, 1, 1, '1')
    b = self.normed(b, self.base_width, 3, self.strides, '2')
    residual, u = self.described(b, 1, 1, 'conv3', 'bn3')
    return self.finish(x, v, residual, u)


BLOCKS = {
  ('basic', True): PreactBasic,
  ('bottleneck', True): PreactBottleneck,
  ('basic', False): PostBasic,
  ('bottleneck', False): PostBottleneck,
}


def expansion(block: str) -> int:
  """Channels of a block's output over the base width of its stage."""
  return 4 if block == 'bottleneck' else 1
