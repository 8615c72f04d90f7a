"""Dropout of Wide ResNets: it acts in training, on what goes into the second convolution, and nowhere else."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from cmpe_jax import config as configuration
from cmpe_jax import models, names
from cmpe_jax.models.layers import Conv

RATE = 0.4
IMAGES = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)


def network(dropout, form='fused'):
  keys = configuration.model()
  keys.update({'backbone': 'wide_resnet', 'block': 'basic', 'depth': 10, 'width': 2, 'num_classes': 10})
  keys.update({'dropout': dropout, 'gate_form': form})
  return models.build(keys)


def trained(model, variables, key):
  """The logits of a training step that draws from a key, and what each second convolution was given."""
  seen = []

  def look(call, arguments, keywords, context):
    if isinstance(context.module, Conv) and context.module.name == 'conv2':
      seen.append(np.asarray(arguments[0]))
    return call(*arguments, **keywords)

  with nn.intercept_methods(look):
    logits, _ = model.apply(variables, IMAGES, True, mutable=['batch_stats'], rngs={'dropout': jax.random.key(key)})
  return np.asarray(logits), seen


@pytest.mark.parametrize('form', names.GATE_FORMS)
def test_dropout_draws_in_training_and_is_gone_at_inference(form):
  model, plain = network(RATE, form), network(0.0, form)
  variables = models.init(plain, jax.random.key(0), 16)
  (one, dropped), (again, _), (other, _) = (trained(model, variables, key) for key in (1, 1, 2))
  (without, whole), (without_too, _) = (trained(plain, variables, key) for key in (1, 2))
  np.testing.assert_array_equal(one, again)
  np.testing.assert_array_equal(without, without_too)
  assert np.abs(one - other).max() > 1e-3
  assert np.abs(one - without).max() > 1e-3
  np.testing.assert_array_equal(model.apply(variables, IMAGES), plain.apply(variables, IMAGES))
  # The first block is given the same with and without: of its positive values 0.4 are gone, the others 1/0.6 of theirs.
  positive = whole[0] > 0
  kept = dropped[0][positive] > 0
  assert abs(1 - kept.mean() - RATE) < 5 * np.sqrt(RATE * (1 - RATE) / kept.size)
  np.testing.assert_allclose(dropped[0][positive][kept], whole[0][positive][kept] / (1 - RATE), rtol=1e-6)
  for values in dropped:
    assert 0.6 < (values == 0).mean() < 0.8  # half of them are zeros of the ReLU
  assert len(dropped) == 3
