"""Every file in configs/: it loads, says what it is, builds, and its schedule is the one that its recipe states."""

import importlib.util
import math
import pathlib
import re

import jax
import numpy as np
import pytest
from harness import resolved

from cmpe_jax import config as configuration
from cmpe_jax import models, names
from cmpe_jax.data import datasets
from cmpe_jax.training import optimizer, schedule

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted((ROOT / 'configs').glob('*.py'))
NAMES = [path.stem for path in FILES]
IMAGES = {'digits': 1433, 'cifar10': 50_000, 'cifar100': 50_000, 'svhn_cropped': 604_388, 'imagenet2012': 1_281_167}
CLASSES = {'digits': 10, 'cifar10': 10, 'cifar100': 100, 'svhn_cropped': 10, 'imagenet2012': 1000}
# Test error in percent by network and gate, from arXiv 1807.08920: CIFAR-10, with mixup, CIFAR-100, with mixup.
PAPER = {
  'resnet110': {
    'none': ('6.37', '-', '-', '23.98'),
    'se': ('5.68', '-', '25.82', '-'),
    'pair_1x1': ('5.45', '4.30', '25.35', '22.92'),
  },
  'resnet164': {
    'none': ('5.46', '4.15', '24.33', '20.84'),
    'se': ('4.85', '4.07', '22.61', '19.89'),
    'double_fc': ('4.72', '3.82', '22.38', '19.58'),
    'pair_2x1': ('4.59', '3.76', '22.41', '19.69'),
    'pair_1x1': ('4.57', '3.78', '22.35', '19.46'),
  },
  'wrn16_8': {'pair_1x1': ('4.20', '3.18', '19.77', '17.26')},
  'wrn22_10': {
    'none': ('4.44', '-', '20.75', '17.88'),
    'se': ('4.09', '-', '19.52', '17.06'),
    'pair_1x1': ('3.75', '2.86', '18.86', '16.82'),
  },
  'wrn28_10': {
    'none': ('4.17', '2.70', '20.50', '17.50'),
    'se': ('3.88', '2.68', '19.05', '16.77'),
    'double_fc': ('3.66', '2.62', '18.69', '16.23'),
    'pair_2x1': ('3.73', '2.65', '18.71', '16.18'),
    'pair_1x1': ('3.58', '2.58', '18.55', '16.13'),
  },
}


def load(name):
  """The module, loaded by path as the command does."""
  spec = importlib.util.spec_from_file_location(name, ROOT / 'configs' / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_there_is_one_for_every_network_and_dataset_of_the_paper():
  assert {f'{data}_{net}' for data in ('cifar10', 'cifar100') for net in PAPER} <= set(NAMES)
  assert {'base', 'digits', 'svhn_wrn16_8', 'imagenet_resnet50', 'imagenet_se50', 'imagenet_cmpe50'} <= set(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_it_builds(name):
  config = load(name).get_config()
  configuration.check(config)
  config = resolved(config)
  assert config.model.num_classes == CLASSES[config.dataset]
  model = models.build(config.model, dtype=config.dtype)
  image = jax.ShapeDtypeStruct((2, config.image_size, config.image_size, 3), 'float32')
  variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
  logits = jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, image)
  assert logits.shape == (2, CLASSES[config.dataset])
  assert logits.dtype == 'float32'


@pytest.mark.parametrize('gate', names.GATES)
def test_digits_takes_every_gate(gate):
  config = resolved(load('digits').get_config())
  config.model.gate = gate
  model = models.build(config.model)
  image = jax.ShapeDtypeStruct((2, config.image_size, config.image_size, 3), 'float32')
  shapes = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, train=False), image)
  assert shapes[0].shape == (2, 10)


@pytest.mark.parametrize('name', [name for name in NAMES if name != 'base'])
def test_the_docstring_gives_data_command_recipe_and_expectation(name):
  text = load(name).__doc__
  assert f'python -m cmpe_jax.main --config=configs/{name}.py' in text
  assert re.search(r'^Recipe    \S', text, re.MULTILINE)
  assert re.search(r'^Expected  \S', text, re.MULTILINE)
  config = load(name).get_config()
  if config.dataset != 'digits':
    assert f'python -m cmpe_jax.data.prepare --dataset={config.dataset}' in text
  gates = {'resnet50': 'none', 'se50': 'se'}
  assert config.model.gate == gates.get(name.partition('_')[2], 'pair_1x1')


@pytest.mark.parametrize('name', [name for name in NAMES if name.startswith('cifar') and name != 'cifar10_short'])
def test_the_docstring_has_the_papers_numbers(name):
  data, net = name.split('_', 1)
  rows = {}
  for line in load(name).__doc__.splitlines():
    match = re.fullmatch(r' {12}(\w+)(?: \(default\))? +([\d.]+|-) +([\d.]+|-)', line)
    if match:
      rows[match[1]] = match.groups()[1:]
  first = 0 if data == 'cifar10' else 2
  want = {gate: numbers[first : first + 2] for gate, numbers in PAPER[net].items()}
  assert rows == {gate: numbers for gate, numbers in want.items() if numbers != ('-', '-')}


def test_the_page_of_results_has_the_papers_numbers():
  rows, net = {}, ''
  number = r'(\d\.\d\d|\d\d\.\d\d|-)'
  for line in (ROOT / 'docs' / 'results.md').read_text().splitlines():
    match = re.fullmatch(rf'\| (?:`cifar\d+_(\w+)` )?\| `(\w+)` \| {number} \| [^|]* \| {number} \| [^|]* \|', line)
    if match:
      net = match[1] or net
      rows.setdefault(net, {}).setdefault(match[2], []).extend(match.groups()[2:])
  assert {net: {gate: tuple(cells) for gate, cells in gates.items()} for net, gates in rows.items()} == PAPER


def rate(config, epoch):
  """The learning rate when `epoch` epochs are done."""
  steps = schedule.of_config(config, IMAGES[config.dataset]).total
  return float(optimizer.learning_rate(config, steps)(round(epoch / config.epochs * steps)))


@pytest.mark.parametrize('name', [name for name in NAMES if '_' in name and not name.endswith('ep')])
def test_the_schedule_is_the_recipes(name):
  config = load(name).get_config()
  resnet, wide = {0: 0.1, 99: 0.1, 101: 0.01, 149: 0.01, 151: 1e-3, 199: 1e-3}, {0: 0.1, 59: 0.1, 61: 0.02, 119: 0.02}
  if name == 'cifar10_short':  # up in a quarter, down in three quarters
    want, epochs, decay = {0: 0.0, 0.75: 0.2, 1.5: 0.4, 3.75: 0.2, 4.875: 0.1, 6: 0.0}, 6, 5e-4
    assert (config.label_smoothing, config.ema_decay, config.validation) == (0.1, 0.99, 0.0)
  elif name.startswith('cifar'):
    want = wide | {121: 0.004, 159: 0.004, 161: 8e-4, 199: 8e-4} if 'wrn' in name else resnet
    epochs, decay = 200, 5e-4 if 'wrn' in name else 1e-4
  elif name.startswith('svhn'):
    want, epochs, decay = {0: 0.01, 79: 0.01, 81: 1e-3, 119: 1e-3, 121: 1e-4, 159: 1e-4}, 160, 5e-4
    assert config.model.dropout == 0.4
    assert datasets.describe(config).augmentation == 'none'
  else:  # batch 1024: four times 0.1 per 256 images
    want = {0: 0.0, 2.5: 0.2, 5: 0.4, 29: 0.4, 31: 0.04, 59: 0.04, 61: 0.004, 79: 0.004, 81: 4e-4, 89: 4e-4}
    epochs, decay = 90, 1e-4
  assert config.epochs == epochs
  assert config.weight_decay == decay
  assert (config.momentum, config.nesterov) == (0.9, True)
  assert config.batch_size == (1024 if name.startswith('imagenet') else 128)
  assert {epoch: pytest.approx(rate(config, epoch), rel=2e-3, abs=1e-9) for epoch in want} == want


# What ffcv's configurations of a ResNet-50 say: epochs, the last at 160 pixels, the first at 192, accuracy it reports.
FAST = {'16ep': (16, 11, 13, '73.8'), '32ep': (32, 23, 27, '76.6'), '88ep': (88, 65, 76, '78.4')}


@pytest.mark.parametrize('name', [name for name in NAMES if name.endswith('ep')])
def test_the_fast_recipes_are_those_of_ffcv(name):
  epochs, start, end, accuracy = FAST[name.rpartition('_')[2]]
  module = load(name)
  assert f'not measured by us; ffcv reports {accuracy} %' in module.__doc__
  config = resolved(module.get_config())
  plan = schedule.of_config(config, IMAGES['imagenet2012'])
  sides = [plan.side(math.ceil(epoch * plan.total / epochs)) for epoch in range(epochs)]
  # Between the two epochs it goes in a straight line, and takes the nearest multiple of 32.
  assert sides == [32 * round(float(np.interp(epoch, [start, end], [160, 192])) / 32) for epoch in range(epochs)]
  assert (config.image_size, config.eval_flip, config.label_smoothing, config.weight_decay) == (256, True, 0.1, 1e-4)
  assert (config.momentum, config.nesterov, config.decay_parameters) == (0.9, False, 'kernels')
  want = {epoch: np.interp(epoch, [0, 2, epochs], [1.7e-4, 1.7, 0]) for epoch in (0, 1, 2, epochs / 2, epochs)}
  assert {epoch: pytest.approx(rate(config, epoch), rel=1e-3, abs=1e-9) for epoch in want} == want
  config.batch_size = 1024
  assert rate(config, 2) == pytest.approx(1.7 / 4, rel=1e-3)


def test_overrides_change_what_follows_from_them():
  config = load('imagenet_cmpe50').get_config()
  config.batch_size = 4096
  assert rate(config, 6) == pytest.approx(1.6, rel=1e-5)
  config.epochs = 18.0
  config.warmup_epochs = 1.0
  assert rate(config, 5.9) == pytest.approx(1.6, rel=1e-5)
  assert rate(config, 6.1) == pytest.approx(0.16, rel=1e-5)
