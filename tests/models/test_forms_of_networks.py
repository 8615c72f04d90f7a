"""The forms of GPUs and TPUs of whole networks against the reference: loops, recomputation, frozen stages, BlurPool."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmpe_jax import config as configuration
from cmpe_jax import models
from cmpe_jax.models import builder

CASES = {
  'post-remat-zero': ({'gate': 'pair_1x1', 'preact': False, 'zero_init': True}, {'remat': True}),
  'post-frozen-blur': ({'gate': 'none', 'preact': False, 'blur_pool': True}, {'frozen_stages': 1}),
  'pre-scan': ({'gate': 'pair_1x1', 'scan_blocks': True}, {}),
  'pre-remat': ({'gate': 'pair_1x1'}, {'remat': True}),
  'post-scan': ({'gate': 'folded_3x3', 'preact': False, 'scan_blocks': True}, {}),
  'pre-frozen-blur': ({'gate': 'se', 'blur_pool': True}, {'frozen_stages': 1}),
}
FAST = 'post-remat-zero'


@pytest.mark.parametrize('case', [pytest.param(c, marks=[] if c == FAST else [pytest.mark.slow]) for c in CASES])
def test_every_form_equals_the_reference_in_float64(case, monkeypatch):
  monkeypatch.setattr(builder, 'IMAGENET_STAGES', {'bottleneck': {50: (3, 1, 1, 1)}})
  keys, more = CASES[case]
  found = []
  with jax.enable_x64(True):
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 64, 64, 3)))
    for form, platform in (('reference', 'cpu'), ('fused', 'gpu'), ('fused', 'tpu')):
      config = configuration.model()
      config.update({'backbone': 'imagenet_resnet', 'block': 'bottleneck', 'depth': 50, 'num_classes': 5})
      config.update({'preact': True, 'gate_form': form, **keys})
      model = models.build(config, 'float64', platform=platform, **more)
      variables = models.init(models.build(config, 'float64', platform='cpu'), jax.random.key(0), 64)
      variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables)

      def loss(params, model=model, stats=variables['batch_stats']):
        logits, updated = model.apply({'params': params, 'batch_stats': stats}, images, True, mutable=['batch_stats'])
        return (logits * jnp.sin(jnp.arange(logits.size)).reshape(logits.shape)).sum(), (logits, updated)

      value, gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables['params'])
      found.append(jax.device_get((value, gradient, jax.jit(model.apply)(variables, images))))
  for other in found[1:]:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9 * max(1, np.abs(b).max())), other, found[0])
