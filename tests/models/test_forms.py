"""The fused forms against the paper's own, the reference: outputs, gradients, statistics, every gate and block."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cmpe_jax.models import blocks, descriptors, forms, gates, layers, norms
from cmpe_jax.models.precision import at_least_float32
from cmpe_jax.names import GATES

REFERENCE, *FUSED = forms.EVERY
STRIDES = {'identity': 1, 'project': 1, 'stride': 2, 'blur': 2}


def random_tree(shapes, seed):
  """Values away from the initial ones, so that nothing hides behind a zero or a one."""
  leaves, structure = jax.tree.flatten(shapes)
  rng = np.random.default_rng(seed)
  return structure.unflatten(
    [jnp.asarray(rng.uniform(0.2, 0.9, leaf.shape) * rng.choice([-1, 1], leaf.shape)) for leaf in leaves]
  )


def make_block(kind, gate, form, dtype, shortcut, group_size=0, train=True):
  make_gate = gates.find(gate)
  chosen = forms.choose(*form.split(' on '), gated=make_gate is not None, preact=kind[1])
  descriptor, filter_maps = chosen.of(train), chosen.filter_maps
  if make_gate is not None:
    make_gate = functools.partial(make_gate, filter_maps=filter_maps, columns=8, group_size=group_size)
  return blocks.BLOCKS[kind](
    base_width=32,
    channels=32 * blocks.expansion(kind[0]),
    strides=STRIDES[shortcut],
    project=shortcut != 'identity',
    conv=functools.partial(layers.Conv, dtype=dtype, descriptors=descriptor, blurs=shortcut == 'blur'),
    norm=functools.partial(
      norms.BatchNorm, train=train, dtype=dtype, group_size=group_size, merges_mean=descriptor.merge_mean
    ),
    gate=make_gate,
    descriptors=descriptor,
    train=train,
  )


def run_each(seeds, kind, gate, form, dtype, shortcut, group_size=0, batch=8):
  """Loss, output, new statistics and gradients of a block fed as a net would, for images of each seed; jitted once."""
  shape = (batch, 7, 6, 32 * blocks.expansion(kind[0]) if shortcut == 'identity' else 16)
  images = [np.random.default_rng(seed).normal(0.3, 1, shape).astype(jnp.bfloat16).astype(np.float32) for seed in seeds]
  carries = form != REFERENCE and kind[1] and shortcut == 'identity'
  block = make_block(kind, gate, form, dtype, shortcut, group_size)
  shapes = jax.eval_shape(lambda k, x: block.init(k, x), jax.random.key(0), jnp.asarray(images[0], dtype))
  kind_of_values = at_least_float32(dtype)
  params = jax.tree.map(lambda a: a.astype(kind_of_values), random_tree(shapes['params'], 1))
  stats = jax.tree.map(lambda a: jnp.abs(a).astype(kind_of_values), random_tree(shapes['batch_stats'], 2))

  def loss(params, x):
    carried = x.mean((1, 2)) if carries else None
    (y, _), updated = block.apply({'params': params, 'batch_stats': stats}, x, carried, mutable=['batch_stats'])
    weights = jnp.sin(jnp.arange(y.size, dtype=kind_of_values)).reshape(y.shape)
    return (weights * y).sum(), (y, updated)

  infer = make_block(kind, gate, form, dtype, shortcut, train=False)
  compute = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
  program = jax.jit(lambda p, x: (compute(p, x), infer.apply({'params': p, 'batch_stats': stats}, x)[0]))
  return [jax.device_get(program(params, jnp.asarray(x, dtype))) for x in images]


def run(*arguments, **more):
  """`run_each` for one seed."""
  return run_each([7], *arguments, **more)[0]


def forms_of(block):
  """All; of basic blocks without the TPU's, which has nothing there that no other has. A slow test holds it too."""
  return [form for form in forms.EVERY if block == 'bottleneck' or form != 'fused on tpu']


def combinations():
  """Every gate in every block with every shortcut; a third of them, in which all pairs occur, are not slow."""
  for i, gate in enumerate(GATES):
    for j, kind in enumerate(blocks.BLOCKS):
      for k, shortcut in enumerate(STRIDES):
        fast = gate == 'pair_1x1' if shortcut == 'blur' else (i + j + k) % 3 == 0
        marks = [] if fast else [pytest.mark.slow]
        name = f'{gate}-{"pre" if kind[1] else "post"}_{kind[0]}-{shortcut}'
        yield pytest.param(kind, gate, shortcut, id=name, marks=marks)


@pytest.mark.parametrize(('kind', 'gate', 'shortcut'), list(combinations()))
def test_fused_equals_reference_in_float64(kind, gate, shortcut):
  with jax.enable_x64(True):
    reference, *fused = (run(kind, gate, form, jnp.float64, shortcut) for form in forms_of(kind[0]))
  for found in fused:
    chex.assert_trees_all_close(found, reference, atol=1e-9, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize('shortcut', STRIDES)
@pytest.mark.parametrize('preact', [True, False])
@pytest.mark.parametrize('gate', ['none', 'pair_1x1'])
def test_a_basic_block_as_a_tpu_has_it_equals_the_reference(gate, preact, shortcut):
  with jax.enable_x64(True):
    reference, found = (
      run(('basic', preact), gate, form, jnp.float64, shortcut) for form in (REFERENCE, 'fused on tpu')
    )
  chex.assert_trees_all_close(found, reference, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(
  ('gate', 'kind', 'shortcut'),
  [
    ('pair_1x1', ('basic', True), 'project'),
    ('folded_3x3', ('basic', True), 'project'),
    pytest.param('pair_1x1', ('basic', False), 'stride', marks=pytest.mark.slow),
    ('none', ('bottleneck', False), 'project'),
    ('pair_1x1', ('bottleneck', False), 'project'),
    ('pair_1x1', ('bottleneck', True), 'stride'),
  ],
)
def test_fused_equals_reference_in_groups(gate, kind, shortcut):
  with jax.enable_x64(True):
    reference, *fused = (run(kind, gate, form, jnp.float64, shortcut, group_size=2) for form in forms.EVERY)
    whole = run(kind, gate, 'fused on cpu', jnp.float64, shortcut)
  for found in fused:
    chex.assert_trees_all_close(found, reference, atol=1e-9, rtol=1e-9)
    assert abs(found[0][0][0] - whole[0][0][0]) > 1e-3  # groups do change the numbers


@pytest.mark.parametrize(
  ('form', 'preact', 'gate', 'shortcut'),
  [
    pytest.param('fused on cpu', True, 'pair_2x1', 'identity', marks=pytest.mark.slow),
    pytest.param('fused on gpu', True, 'pair_1x1', 'identity', marks=pytest.mark.slow),
    ('fused on gpu', False, 'pair_1x1', 'project'),
    ('fused on tpu', True, 'pair_1x1', 'stride'),
    pytest.param('fused on tpu', False, 'pair_1x1', 'identity', marks=pytest.mark.slow),
  ],
)
def test_fused_is_the_same_on_eight_devices(form, preact, gate, shortcut):
  """Output, statistics and gradients, of parameters and of images."""
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  with jax.enable_x64(True):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(16, 6, 6, 128 if shortcut == 'identity' else 64)))
    block = make_block(('bottleneck', preact), gate, form, jnp.float64, shortcut)
    variables = block.init(jax.random.key(0), x)

    def loss(params, x):
      carried = x.mean((1, 2)) if preact and shortcut == 'identity' else None
      (y, _), updated = block.apply({**variables, 'params': params}, x, carried, mutable=['batch_stats'])
      return (y * jnp.sin(jnp.arange(y.size)).reshape(y.shape)).sum(), (y, updated)

    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    across = NamedSharding(mesh, PartitionSpec('data'))
    one, eight = step(variables['params'], x), step(variables['params'], jax.device_put(x, across))
  assert len(eight[0][1][0].sharding.device_set) == 8
  chex.assert_trees_all_close(jax.device_get(one), jax.device_get(eight), atol=1e-10, rtol=1e-10)


def rounding_ratios(seeds, kind, gate, form, dtype, shortcut):
  """[seeds, results]: distance of each result from float64 over that of the reference."""
  with jax.enable_x64(True):
    truths = run_each(seeds, kind, gate, REFERENCE, jnp.float64, shortcut, batch=16)
  errors = []
  for one in (REFERENCE, form):
    found = jax.tree.map(
      lambda a: np.asarray(a, np.float64), run_each(seeds, kind, gate, one, dtype, shortcut, batch=16)
    )
    leaves = zip(jax.tree.leaves(found), jax.tree.leaves(truths), strict=True)
    errors.append([np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in leaves])
  return np.divide(errors[1], errors[0]).reshape(len(seeds), -1)


@pytest.mark.parametrize(
  ('kind', 'gate'), [(('basic', True), 'se'), (('bottleneck', True), 'pair_1x1'), (('bottleneck', False), 'folded_3x3')]
)
def test_float32_rounding_of_the_fused_form_is_no_worse(kind, gate):
  """Distance from float64 at most 1.5 times the reference's: geometric mean over output, statistics, gradients, seeds.

  From seed to seed the ratio varies by a factor of 1.2 (one standard deviation; 0.9 to 1.9 were seen), with sixteen
  seeds their mean by 1.05. It was 1.19, 0.91, 1.08 for the three cases with JAX 0.10.2, 1.22, 0.89, 1.07 with 0.12.0.
  """
  ratios = rounding_ratios(range(16), kind, gate, 'fused on cpu', jnp.float32, 'stride')
  assert np.exp(np.mean(np.log(ratios))) < 1.5, ratios


@pytest.mark.parametrize(
  ('form', 'kind', 'gate', 'shortcut'),
  [
    ('fused on gpu', ('bottleneck', False), 'pair_1x1', 'project'),
    ('fused on gpu', ('bottleneck', True), 'pair_1x1', 'identity'),
    ('fused on gpu', ('bottleneck', False), 'none', 'identity'),
    pytest.param('fused on gpu', ('basic', True), 'pair_1x1', 'stride', marks=pytest.mark.slow),
    ('fused on tpu', ('bottleneck', False), 'pair_1x1', 'project'),
    ('fused on tpu', ('bottleneck', False), 'none', 'identity'),
    ('fused on tpu', ('bottleneck', True), 'pair_1x1', 'identity'),
  ],
)
def test_bfloat16_rounding_of_the_fused_form_is_no_worse(form, kind, gate, shortcut):
  """The same in bfloat16, and of the output at inference by itself: there a GPU's form rounds offsets too.

  It was 1.07, 0.89, 0.98, 1.01, 0.98, 0.93 for the cases, of the output at inference 1.04, 1.12, 0.98 and 1.00 to 1.01.
  """
  ratios = rounding_ratios(range(6), kind, gate, form, jnp.bfloat16, shortcut)
  assert np.exp(np.mean(np.log(ratios))) < 1.2, ratios
  assert np.exp(np.mean(np.log(ratios[:, -1]))) < 1.2, ratios


@pytest.mark.parametrize('size', [(5, 8), (7, 7), (4, 3)])
@pytest.mark.parametrize(
  ('kernel', 'stride', 'padding'), [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (3, 1, 0), (5, 2, 2)]
)
def test_mean_of_conv_is_the_mean_of_the_convolution(size, kernel, stride, padding):
  if min(size) + 2 * padding < kernel:
    pytest.skip('the filter does not fit')
  with jax.enable_x64(True):
    rng = np.random.default_rng(0)
    x, w = jnp.asarray(rng.normal(size=(2, *size, 4))), jnp.asarray(rng.normal(size=(kernel, kernel, 4, 6)))
    strides, padded = (stride,) * 2, (padding,) * 2
    expected = layers.convolve(x, w, strides, padded).mean((1, 2))
    np.testing.assert_allclose(descriptors.mean_of_conv(x, w, strides, padded), expected, atol=1e-13)


def test_scale_is_between_zero_and_one_and_scales_the_residual_only():
  x = jax.random.normal(jax.random.key(0), (4, 5, 5, 128))
  block = make_block(('bottleneck', True), 'double_fc', 'fused on cpu', jnp.float32, 'identity')
  variables = block.init(jax.random.key(1), x)
  (y, _), seen = block.apply(variables, x, mutable=['intermediates', 'batch_stats'])
  plain = make_block(('bottleneck', True), 'none', 'fused on cpu', jnp.float32, 'identity')
  params = {name: value for name, value in variables['params'].items() if name != 'gate'}
  (ungated, _), _ = plain.apply({'params': params, 'batch_stats': variables['batch_stats']}, x, mutable=['batch_stats'])
  scale = seen['intermediates']['scale'][0]
  assert scale.shape == (4, 128)
  assert 0 < scale.min() < scale.max() < 1
  np.testing.assert_allclose(y, x + scale[:, None, None] * (ungated - x), atol=1e-5)
