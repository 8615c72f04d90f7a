"""A CMPE gate in a network that is not ours: `python -m docs.own_network`, a few seconds on a CPU."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from cmpe_jax.models import gates


class Block(nn.Module):
  """y = identity + scale * residual."""

  channels: int

  @nn.compact
  def __call__(self, identity, train):
    """[N, H, W, channels] -> the same."""
    residual = nn.Conv(self.channels, (3, 3))(nn.relu(identity))
    u, v = residual.mean((1, 2)), identity.mean((1, 2))
    scale = gates.make('pair_1x1', channels=self.channels)(u, v, train)
    return identity + scale[:, None, None] * residual


class Net(nn.Module):
  """A small network for images of 32x32."""

  @nn.compact
  def __call__(self, images, train):
    """[N, 32, 32, 3] -> logits [N, 10]."""
    x = nn.Conv(32, (3, 3), strides=2)(images)
    for _ in range(2):
      x = Block(32)(x, train)
    return nn.Dense(10)(x.mean((1, 2)))


net, optimizer = Net(), optax.sgd(0.1)
images = jax.random.normal(jax.random.key(0), (16, 32, 32, 3))
labels = jnp.arange(16) % 10
variables = net.init(jax.random.key(1), images, train=False)
params, batch_stats = variables['params'], variables['batch_stats']


def loss(params, batch_stats):
  """The mean cross-entropy, and the gates' running statistics, which a training step moves."""
  logits, updated = net.apply(
    {'params': params, 'batch_stats': batch_stats}, images, train=True, mutable=['batch_stats']
  )
  return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updated['batch_stats']


@jax.jit
def step(params, batch_stats, state):
  """A step of gradient descent."""
  (value, batch_stats), gradient = jax.value_and_grad(loss, has_aux=True)(params, batch_stats)
  updates, state = optimizer.update(gradient, state, params)
  return optax.apply_updates(params, updates), batch_stats, state, value


state = optimizer.init(params)
params, batch_stats, state, before = step(params, batch_stats, state)
params, batch_stats, state, after = step(params, batch_stats, state)
print(f'loss before the step {before:.4f}, after it {after:.4f}')
