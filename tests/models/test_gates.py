"""The gates that are not the paper's: against their equations in NumPy, and against timm's modules."""

import jax
import numpy as np
import pytest

from cmpe_jax.models import gates

RIVALS = ('eca', 'ge')


def scales(name, u, dtype=np.float64):
  """What a gate makes of `u` [N, C], and its kernel [k] (None: it has no parameters)."""
  gate = gates.make(name, channels=u.shape[1])
  u, v = u.astype(dtype), np.random.default_rng(1).normal(size=u.shape).astype(dtype)
  with jax.enable_x64(dtype == np.float64):
    shapes = jax.eval_shape(lambda: gate.init(jax.random.key(0), u, v))
    kernels = [np.random.default_rng(2).normal(size=leaf.shape).astype(dtype) for leaf in jax.tree.leaves(shapes)]
    s = np.asarray(gate.apply(jax.tree.unflatten(jax.tree.structure(shapes), kernels), u, v))
  assert s.dtype == dtype
  return s, *(kernels or [None])


@pytest.mark.parametrize(
  ('channels', 'span'),
  [(4, 3), (16, 3), (32, 3), (64, 3), (128, 5), (160, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)],
)
def test_efficient_channel_attention_is_a_convolution_along_the_channels(channels, span):
  """Spans by hand: (log2(32) + 1) / 2 is 3, that of 128 channels is 4, whose next odd number is 5."""
  u = np.random.default_rng(3).normal(size=(5, channels))
  found, kernel = scales('eca', u)
  assert kernel.shape == (span,)
  reach = span // 2
  padded = np.pad(u, ((0, 0), (reach, reach)))
  convolved = np.stack([np.correlate(row, kernel, 'valid') for row in padded])
  np.testing.assert_allclose(found, 1 / (1 + np.exp(-convolved)), atol=1e-14)


def test_gather_excite_is_the_sigmoid_of_the_residual_and_has_no_parameters():
  u = np.random.default_rng(3).normal(size=(5, 64))
  found, kernel = scales('ge', u)
  assert kernel is None
  np.testing.assert_allclose(found, 1 / (1 + np.exp(-u)), atol=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize('channels', [16, 64, 128, 256, 512, 640, 1024, 2048])
@pytest.mark.parametrize('name', RIVALS)
def test_scaled_maps_are_those_of_timm(name, channels):
  torch = pytest.importorskip('torch', reason='pip install -r requirements-peer.txt')
  layers = pytest.importorskip('timm.layers', reason='pip install -r requirements-peer.txt')
  residual = np.random.default_rng(channels).normal(size=(3, channels, 7, 6))
  found, kernel = scales(name, residual.mean((2, 3)))
  if name == 'eca':
    theirs = layers.EcaModule(channels).double()
    theirs.load_state_dict({'conv.weight': torch.from_numpy(kernel)[None, None]})  # refuses another span
  else:
    theirs = layers.GatherExcite(channels, extra_params=False, extent=0, use_mlp=False).double()
    assert list(theirs.parameters()) == []
  with torch.no_grad():
    want = theirs(torch.from_numpy(residual)).numpy()
  np.testing.assert_allclose(found[:, :, None, None] * residual, want, atol=1e-12)
  rounded, _ = scales(name, residual.mean((2, 3)), np.float32)
  np.testing.assert_allclose(rounded[:, :, None, None] * residual, want, atol=1e-6)
