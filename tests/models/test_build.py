"""The registry: parameter counts from outside, one tree for every form, errors that name the fix."""

import json
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmpe_jax import config as configuration
from cmpe_jax import keys, models, names
from cmpe_jax.errors import UserError
from cmpe_jax.models import gates, paths
from cmpe_jax.models.gates.gate import Gate

COUNTS = json.loads((pathlib.Path(__file__).parents[1] / 'golden' / 'blocks' / 'param_counts.json').read_text())['nets']
VARIANTS = {
  'plain': 'none',
  'se': 'se',
  'double_fc': 'double_fc',
  '1x1': 'pair_1x1',
  '2x1': 'pair_2x1',
  '3x3': 'folded_3x3',
}


def config_of(**values):
  config = configuration.model()
  config.num_classes = 10
  config.update(values)
  return config


def shapes_of(config, image_size=32):
  model = models.build(config)
  image = jax.ShapeDtypeStruct((2, image_size, image_size, 3), jnp.float32)
  return jax.eval_shape(lambda key, x: model.init(key, x), jax.random.key(0), image)


def size(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def net_config(net):
  if net['family'] == 'wrn':
    return config_of(backbone='wide_resnet', block='basic', depth=net['depth'], width=net['width'])
  return config_of(block=net['family'].removeprefix('resnet_'), depth=net['depth'])


@pytest.mark.parametrize('name', COUNTS)
def test_parameter_counts_of_the_full_size_nets(name):
  for variant, counts in COUNTS[name]['variants'].items():
    config = net_config(COUNTS[name])
    config.gate = VARIANTS[variant]
    variables = shapes_of(config)
    assert size(variables['params']) == counts['trainable_10'], variant
    assert size(variables['batch_stats']) == counts['running_stats'], variant
    classifier = variables['params']['classifier']['kernel']
    assert size(variables['params']) + 90 * (classifier.shape[0] + 1) == counts['trainable_100'], variant


@pytest.mark.parametrize(
  ('values', 'count'),
  [
    ({'gate': 'none'}, 25_557_032),  # torchvision's and timm's resnet50
    ({'gate': 'ge'}, 25_557_032),
    ({'gate': 'eca'}, 25_557_032 + 3 * 5 + 4 * 5 + 6 * 5 + 3 * 7),  # spans of 256, 512, 1024, 2048 channels
    ({'gate': 'se'}, 28_071_976),
    ({'gate': 'se', 'gate_bias': True}, 28_088_024),  # timm's seresnet50
    ({'gate': 'none', 'depth': 101}, 44_549_160),  # torchvision's resnet101
    ({'gate': 'none', 'depth': 152}, 60_192_808),
    ({'gate': 'none', 'depth': 18, 'block': 'basic'}, 11_689_512),
    ({'gate': 'none', 'depth': 34, 'block': 'basic'}, 21_797_672),
  ],
)
def test_parameter_counts_of_imagenet_nets(values, count):
  config = config_of(backbone='imagenet_resnet', depth=50, preact=False, num_classes=1000)
  config.update(values)
  assert size(shapes_of(config, 224)['params']) == count


def test_every_gate_has_a_class_and_is_known_to_the_configuration():
  assert keys.MODEL['gate'].choices == tuple(names.GATES)
  found = {name: gates.find(name) for name in names.GATES}
  assert found.pop('none') is None
  assert all(issubclass(kind, Gate) for kind in found.values())


@pytest.mark.parametrize('gate', names.GATES)
def test_forms_and_the_fast_initialization_have_one_tree(gate):
  config = config_of(depth=11, gate=gate)
  trees = []
  for form in names.GATE_FORMS:
    config.gate_form = form
    trees.append(shapes_of(config))
  assert trees[0] == trees[1]
  drawn = models.init(models.build(config), jax.random.key(0), 32)
  for name in ('params', 'batch_stats'):
    expected = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), trees[0][name])
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), drawn[name]) == expected


def test_fast_initialization_has_the_distributions_of_the_modules():
  config = config_of(depth=11, gate='folded_3x3')
  model = models.build(config)
  slow = model.init(jax.random.key(1), jnp.zeros((1, 32, 32, 3)))
  fast = models.init(model, jax.random.key(1), 32)
  again = models.init(model, jax.random.key(1), 32)
  other = models.init(model, jax.random.key(2), 32)
  for (path, a), b, c, d in zip(
    jax.tree_util.tree_leaves_with_path({k: slow[k] for k in fast}),
    *map(jax.tree.leaves, (fast, again, other)),
    strict=True,
  ):
    np.testing.assert_array_equal(b, c)
    if np.ptp(a) == 0:  # constants are equal, random ones have the same spread
      np.testing.assert_array_equal(a, b)
    else:
      assert not np.array_equal(b, d), path
      assert abs(np.sqrt(np.mean(b**2)) / np.sqrt(np.mean(a**2)) - 1) < 5 / np.sqrt(a.size), path


def test_initial_standard_deviations_are_the_documented_ones():
  config = config_of(depth=164, gate='pair_1x1')
  params = models.init(models.build(config), jax.random.key(0), 32)['params']
  block = params['stage3_block1']
  assert np.std(block['conv2']['kernel']) == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.02)
  assert np.std(block['gate']['squeeze']['kernel']) == pytest.approx(512**-0.5, rel=0.05)
  assert block['gate']['map_conv']['kernel'].min() > 0  # filters that agree in sign do not cancel in the mean


@pytest.mark.parametrize('block', ['bottleneck', 'basic'])
def test_zero_init_makes_every_block_its_identity(block):
  config = config_of(
    backbone='imagenet_resnet', depth={'bottleneck': 50, 'basic': 18}[block], block=block, preact=False
  )
  config.zero_init = True
  params = models.init(models.build(config), jax.random.key(0), 64)['params']
  last, first = {'bottleneck': ('bn3', 'bn1'), 'basic': ('bn2', 'bn1')}[block]
  found = [value for name, value in params.items() if paths.block_of(name)]
  assert len(found) == {'bottleneck': 16, 'basic': 8}[block]
  for values in found:
    assert not values[last]['scale'].any()
    assert values[first]['scale'].all()


@pytest.mark.parametrize(
  ('values', 'words'),
  [
    ({'gate': 'cbam'}, ["model.gate='cbam'", "'pair_1x1'", "'folded_3x3'"]),
    ({'backbone': 'vgg'}, ["model.backbone='vgg'", "'wide_resnet'"]),
    ({'depth': 165}, ['model.depth=165', '9n+2', '164', '173']),
    ({'depth': 1}, ['model.depth=1', '11']),
    ({'block': 'basic', 'depth': 165}, ['model.depth=165', '6n+2', '164 or 170']),
    ({'backbone': 'wide_resnet', 'block': 'basic', 'depth': 29, 'width': 10}, ['model.depth=29', '6n+4', '28 or 34']),
    ({'backbone': 'imagenet_resnet', 'depth': 51, 'preact': False}, ['51', '50, 101, 152']),
    ({'block': 'basic', 'depth': 110, 'gate': 'folded_3x3'}, ['folded_3x3', '2x16', 'another gate']),
    ({'gate': 'folded_3x3', 'fold_columns': 24}, ['columns=24', 'channels=64', 'model.fold_columns']),
    ({'backbone': 'wide_resnet', 'block': 'basic', 'depth': 16, 'gate': 'folded_3x3'}, ['2x16', 'at least 3']),
    ({'backbone': 'wide_resnet', 'depth': 28, 'width': 10}, ["model.block='bottleneck'", "'basic'"]),
    ({'width': 4}, ['model.width=4', 'wide_resnet']),
    ({'dropout': 0.3}, ['model.dropout=0.3', 'basic']),
    ({'zero_init': True}, ['model.zero_init', 'model.preact=False']),
    ({'preact': False}, ['model.preact=False', 'imagenet_resnet']),
    ({'num_classes': 0}, ['model.num_classes=0']),
  ],
)
def test_wrong_values_are_named_with_the_allowed_ones(values, words):
  with pytest.raises(UserError) as error:
    models.build(config_of(**values))
  for word in words:
    assert word in str(error.value)


@pytest.mark.parametrize('group_size', [0, 4])
def test_batch_normalization_equals_flax(group_size):
  """In each group of consecutive examples; the running statistics take the groups' average."""
  from cmpe_jax.models.norms import BatchNorm

  with jax.enable_x64(True):
    x = 2 + 3 * jax.random.normal(jax.random.key(0), (12, 3, 3, 5), jnp.float64)
    descriptor = x.mean((1, 2))
    affine = {'scale': jnp.arange(1.0, 6), 'bias': jnp.arange(5.0)}
    ours = BatchNorm(train=True, dtype=jnp.float64, group_size=group_size)
    stats = {'mean': jnp.zeros(5), 'var': jnp.ones(5)}
    (y, d), updated = ours.apply({'params': affine, 'batch_stats': stats}, x, descriptor, mutable=['batch_stats'])
    theirs = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5, dtype=jnp.float64)
    outs = [
      theirs.apply({'params': affine, 'batch_stats': stats}, part, mutable=['batch_stats'])
      for part in jnp.split(x, 3 if group_size else 1)
    ]
    expected = jnp.concatenate([out for out, _ in outs])
    np.testing.assert_allclose(y, expected, atol=1e-12)
    np.testing.assert_allclose(d, expected.mean((1, 2)), atol=1e-12)
    for name in ('mean', 'var'):
      average = np.mean([stat['batch_stats'][name] for _, stat in outs], axis=0)
      np.testing.assert_allclose(updated['batch_stats'][name], average, atol=1e-12)


def test_a_batch_that_groups_do_not_divide_is_an_error():
  config = config_of(depth=11)
  model = models.build(config, bn_group_size=3)
  variables = models.init(model, jax.random.key(0), 32)
  with pytest.raises(UserError, match=r'bn_group_size=3.*batch of 4'):
    model.apply(variables, jnp.zeros((4, 32, 32, 3)), train=True, mutable=['batch_stats'])
