"""Second derivatives, forward mode, frozen stages and networks side by side: what docs/library.md says of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmpe_jax import config as configuration
from cmpe_jax import models


def losses(form, platform):
  """A network's training loss as a function of its parameters, its parameters, and a direction."""
  keys = configuration.model()
  keys.update({'depth': 11, 'block': 'bottleneck', 'num_classes': 5, 'gate_form': form})
  model = models.build(keys, 'float64', platform=platform)
  variables = models.init(models.build(keys, 'float64', platform='cpu'), jax.random.key(0), 8)
  leaves, structure = jax.tree.flatten(variables['params'])
  rng = np.random.default_rng(0)
  direction = structure.unflatten([jnp.asarray(0.01 * rng.normal(size=leaf.shape)) for leaf in leaves])
  params = jax.tree.map(lambda a, b: jnp.asarray(a, jnp.float64) + b, variables['params'], direction)
  stats = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables['batch_stats'])
  images, labels = jnp.asarray(rng.normal(size=(4, 8, 8, 3))), jnp.arange(4)

  def loss(params):
    logits, _ = model.apply({'params': params, 'batch_stats': stats}, images, True, mutable=['batch_stats'])
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

  return loss, params, direction


def small(preact, platform, **more):
  """A gated network with large stem and two stages, as a platform has it, variables, images and a direction."""
  keys = configuration.model()
  keys.update({'backbone': 'imagenet_resnet', 'depth': 50, 'preact': preact, 'num_classes': 5})
  model = models.build(keys, 'float64', platform=platform, **more)
  model = model.clone(stage_sizes=(2, 1), base_widths=(16, 32), columns=(16, 16))
  variables = models.init(model, jax.random.key(0), 32)
  rng = np.random.default_rng(0)
  return model, variables, *(jnp.asarray(rng.normal(size=(2, 32, 32, 3))) for _ in range(2))


@pytest.mark.parametrize('platform', ['cpu', 'gpu', 'tpu'])
@pytest.mark.parametrize('preact', [True, False])
def test_inference_has_a_forward_mode_in_every_form(preact, platform):
  """It gives the slope that backward mode gives, and that of a difference."""
  with jax.enable_x64(True):
    model, variables, images, direction = small(preact, platform)
    loss = jax.jit(lambda images: jnp.sin(model.apply(variables, images)).sum())
    slope = jax.jit(lambda at: jax.jvp(loss, (at,), (direction,))[1])(images)
    np.testing.assert_allclose(slope, along(jax.jit(jax.grad(loss))(images), direction), rtol=1e-9)
    step = 1e-7 * direction
    np.testing.assert_allclose(slope, (loss(images + step) - loss(images - step)) / 2e-7, rtol=1e-4)


@pytest.mark.parametrize(('preact', 'platform'), [(True, 'cpu'), (False, 'gpu')])
def test_frozen_stages_stop_the_gradient_of_training_only(preact, platform):
  """Of the images too: an evaluation's is that of a network in which nothing is frozen."""
  gradients = {}
  with jax.enable_x64(True):
    for frozen, train in ((0, False), (1, False), (1, True)):
      model, variables, images, _ = small(preact, platform, frozen_stages=frozen)

      def loss(images, model=model, variables=variables, train=train):
        logits, _ = model.apply(variables, images, train, mutable=['batch_stats'])
        return jnp.sin(logits).sum()

      gradients[frozen, train] = np.asarray(jax.jit(jax.grad(loss))(images))
  assert gradients[0, False].any()
  np.testing.assert_array_equal(gradients[1, False], gradients[0, False])
  assert not gradients[1, True].any()


def along(gradient, direction):
  return optax.tree.vdot(gradient, direction)


@pytest.mark.slow
@pytest.mark.parametrize('platform', ['cpu', 'gpu', 'tpu'])
def test_every_form_has_second_derivatives_and_runs_side_by_side(platform):
  with jax.enable_x64(True):
    found = []
    for form in ('reference', 'fused'):
      loss, params, direction = losses(form, platform)

      @jax.jit
      def values(params, loss=loss, direction=direction):
        def slope(at):
          return along(jax.grad(loss)(at), direction)

        both = jax.tree.map(lambda leaf: jnp.stack([leaf, 1.01 * leaf]), params)
        return along(jax.grad(slope)(params), direction), jax.vmap(slope)(both), slope(params)

      found.append(values(params))
    np.testing.assert_allclose(found[1][1][0], found[1][2], rtol=1e-9)
    for one, other in zip(*found, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-9)


@pytest.mark.slow
def test_the_reference_has_a_forward_mode():
  with jax.enable_x64(True):
    loss, params, direction = losses('reference', 'cpu')
    forward = jax.jit(lambda at: jax.jvp(loss, (at,), (direction,))[1])(params)
    np.testing.assert_allclose(forward, jax.jit(lambda at: along(jax.grad(loss)(at), direction))(params), rtol=1e-9)
