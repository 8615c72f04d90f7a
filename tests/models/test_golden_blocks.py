"""Single blocks in float64 against arrays of the authors' own code: outputs, scale, maps, gradients, statistics."""

import functools
import json
import pathlib

import chex
import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmpe_jax.models import blocks, forms, gates, layers, norms

GATES = {'se': 'se', 'double_fc': 'double_fc', '1x1': 'pair_1x1', '2x1': 'pair_2x1', '3x3': 'folded_3x3'}
FILES = sorted((pathlib.Path(__file__).parents[1] / 'golden' / 'blocks').glob('*.npz'))
CASES = [(file, form) for file in FILES for form in forms.EVERY]


def make_block(meta, form, train, dtype):
  chosen = forms.choose(*form.split(' on '), gated=True, preact=True)
  gate = gates.find(GATES[meta['variant']])
  gate = functools.partial(gate, filter_maps=chosen.filter_maps, columns=meta['fold_columns'])
  descriptors = chosen.of(train)
  kind = blocks.PreactBottleneck if meta['family'] == 'resnet' else blocks.PreactBasic
  return kind(
    base_width=meta['base_width'],
    channels=meta['C'],
    strides=meta['stride'],
    project=meta['project'],
    conv=functools.partial(layers.Conv, dtype=dtype, descriptors=descriptors),
    norm=functools.partial(norms.BatchNorm, train=train, dtype=dtype, merges_mean=descriptors.merge_mean),
    gate=gate,
    descriptors=descriptors,
    train=train,
  )


def tree(golden, prefix, dtype):
  names = [name for name in golden.files if name.startswith(prefix)]
  flat = {name.removeprefix(prefix): jnp.asarray(golden[name], dtype) for name in names}
  return flax.traverse_util.unflatten_dict(flat, sep='/')


def assert_close(name, ours, golden, absolute):
  expected = golden[name]
  tolerance = absolute
  if expected.dtype == np.float32:  # stored rounded: half a float32 step is 6e-8 of the value
    tolerance = max(absolute, 1e-7 * np.abs(expected).max())
  chex.assert_trees_all_close(np.asarray(ours), expected.astype(np.float64), atol=tolerance, rtol=0)


@pytest.mark.parametrize(('file', 'form'), [pytest.param(*case, id=f'{case[0].stem}-{case[1]}') for case in CASES])
def test_block_equals_the_authors_in_float64(file, form):
  golden = np.load(file)
  meta = json.loads(str(golden['meta']))
  with jax.enable_x64(True):
    x, cotangent = (jnp.asarray(golden[name], jnp.float64) for name in ('x', 'cotangent'))
    params, stats = tree(golden, 'param/', jnp.float64), tree(golden, 'stat/', jnp.float64)
    # A shared descriptor as the block before it would hand on; the shortcut is the raw input unless it projects.
    carried = None if meta['project'] or form.startswith('reference') else x.mean((1, 2))

    def run(params, x, train):
      block = make_block(meta, form, train, jnp.float64)
      (out, _), updated = block.apply(
        {'params': params, 'batch_stats': stats}, x, carried, mutable=['intermediates', 'batch_stats']
      )
      return (out * cotangent).sum(), (out, updated)

    _, (infer_out, infer) = jax.jit(functools.partial(run, train=False))(params, x)
    grad = jax.jit(jax.value_and_grad(functools.partial(run, train=True), argnums=0, has_aux=True))
    (loss, (train_out, train)), grads = grad(params, x)
  assert float(loss) == pytest.approx(float(golden['train/loss']), abs=1e-9)
  for mode, out, seen in (('infer', infer_out, infer), ('train', train_out, train)):
    seen = seen['intermediates']
    assert_close(f'{mode}/out', out, golden, 1e-9)
    for ours, theirs in (('u', 'u'), ('v', 'v'), ('scale', 's')):
      assert_close(f'{mode}/{theirs}', seen[ours][0], golden, 1e-9)
    if f'{mode}/map' in golden.files:
      assert_close(f'{mode}/map', seen['gate']['map'][0], golden, 1e-9)
      assert_close(f'{mode}/one_map', seen['gate']['filtered_map'][0], golden, 1e-9)
  for name, value in flax.traverse_util.flatten_dict(grads, sep='/').items():
    assert_close(f'grad/{name}', value, golden, 1e-9)
  for name, value in flax.traverse_util.flatten_dict(train['batch_stats'], sep='/').items():
    assert_close(f'stat_after/{name}', value, golden, 3e-7)  # theirs: momentum is float32(0.9)


@pytest.mark.parametrize('form', forms.EVERY)
@pytest.mark.parametrize('name', ['resnet_c32_identity_3x3', 'wrn_c32_project_2x1'])
def test_gradient_of_the_input_when_the_block_pools_it_itself(name, form):
  """Without a carried descriptor the gradient through v reaches x too."""
  golden = np.load(FILES[0].with_name(f'{name}.npz'))
  meta = json.loads(str(golden['meta']))
  with jax.enable_x64(True):
    params, stats = tree(golden, 'param/', jnp.float64), tree(golden, 'stat/', jnp.float64)

    def loss(x):
      block = make_block(meta, form, True, jnp.float64)
      (out, _), _ = block.apply({'params': params, 'batch_stats': stats}, x, mutable=['batch_stats'])
      return (out * golden['cotangent'].astype(np.float64)).sum()

    gradient = jax.jit(jax.grad(loss))(jnp.asarray(golden['x'], jnp.float64))
  assert_close('grad/x', gradient, golden, 1e-9)
