"""BlurPool: strided convolutions see a blurred map, against SciPy's filter and ffcv's choice of convolutions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cmpe_jax import config as configuration
from cmpe_jax import models
from cmpe_jax.models import descriptors, layers

FILTER = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16


def blurred(x):
  """Each channel of each image by itself, with zeros at the borders."""
  return ndimage.correlate(x, FILTER[None, :, :, None], mode='constant')


def maps(*shape, seed=0):
  return np.random.default_rng(seed).normal(0.5, 1, shape)


@pytest.mark.parametrize(('height', 'width'), [(7, 6), (8, 8), (1, 5)])
def test_the_filter_is_that_of_scipy_at_every_and_at_every_second_place(height, width):
  x = maps(2, height, width, 3)
  with jax.enable_x64(True):
    np.testing.assert_allclose(layers.blur(jnp.asarray(x), (1, 1)), blurred(x), rtol=0, atol=1e-14)
    np.testing.assert_allclose(layers.blur(jnp.asarray(x), (2, 2)), blurred(x)[:, ::2, ::2], rtol=0, atol=1e-14)


def test_bfloat16_is_rounded_once():
  x = jnp.asarray(maps(2, 8, 8, 4), jnp.bfloat16)
  want = jnp.asarray(blurred(np.asarray(x, np.float64)), jnp.bfloat16)
  found = layers.blur(x, (1, 1))
  assert found.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.asarray(found, np.float32), np.asarray(want, np.float32), rtol=2**-8)


@pytest.mark.parametrize('form', [descriptors.FUSED, descriptors.REFERENCE])
@pytest.mark.parametrize('size', [1, 3])
def test_a_strided_convolution_of_16_channels_and_its_descriptor_are_those_of_the_blurred_map(size, form):
  with jax.enable_x64(True):
    for channels, strides in ((16, 2), (15, 2), (16, 1)):
      x = maps(3, 7, 6, channels)
      conv = functools.partial(layers.Conv, 5, size, strides, jnp.float64, form)
      variables = conv().init(jax.random.key(0), x)
      y, u = conv(blurs=True).apply(variables, x, with_descriptor=True)
      seen = blurred(x) if (channels, strides) == (16, 2) else x
      np.testing.assert_allclose(y, conv().apply(variables, seen), rtol=0, atol=1e-12)
      np.testing.assert_allclose(u, np.mean(y, (1, 2)), rtol=0, atol=1e-12)


def pads(**keys):
  """How often a ResNet-50 pads a map outside of its convolutions, and its parameters' shapes."""
  config = configuration.model()
  config.update({'backbone': 'imagenet_resnet', 'depth': 50, 'preact': False, 'num_classes': 10, **keys})
  model, image = models.build(config), jax.ShapeDtypeStruct((1, 64, 64, 3), 'float32')
  variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), image)
  program = jax.make_jaxpr(functools.partial(model.apply, train=False))(variables, image)
  return sum(' pad[' in line for line in str(program).splitlines()), jax.tree.map(lambda x: x.shape, variables)


def test_in_a_resnet_50_it_is_the_first_block_of_three_stages_and_not_the_stem():
  """ffcv replaces every strided convolution of 16 channels or more: the 3x3 and the shortcut of stages 2, 3 and 4."""
  (without, shapes), (with_it, same) = pads(blur_pool=False), pads(blur_pool=True)
  assert with_it - without == 6
  assert same == shapes
