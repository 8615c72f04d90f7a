"""Sizes of networks: closed forms, counts that others publish, and the paper's own figures."""

import functools
import json

import pytest
from harness import ROOT, run_module

from cmpe_jax import config as configuration
from cmpe_jax import names
from cmpe_jax.tools.shared import paper, sizes
from cmpe_jax.tools.summary import command as summary

COUNTS = json.loads((ROOT / 'tests' / 'golden' / 'blocks' / 'param_counts.json').read_text())['nets']
GATES = {'plain': 'none', '1x1': 'pair_1x1', '2x1': 'pair_2x1', '3x3': 'folded_3x3'}


def config_of(image_size=32, **model):
  config = configuration.base()
  config.image_size = image_size
  config.model.update({'num_classes': 10} | model)
  return config


def dense(gate, channels, base):
  """MACs of a gate's layers as section 2 of the paper has them, map filters apart."""
  h = max(1, channels // 16)
  inputs = {
    'se': channels,
    'double_fc': 2 * channels,
    'pair_1x1': 2 * channels,
    'pair_2x1': channels,
    'folded_3x3': (2 * channels // 16 - 2) * (16 - 2),
  }
  if gate not in inputs:  # element by element
    return 0
  return inputs[gate] * h + (2 * h if gate == 'double_fc' else h) * channels


def filters(gate, channels, base):
  """MACs of the m map filters, each over the whole map."""
  taps = {'pair_1x1': 2 * channels, 'pair_2x1': 2 * channels, 'folded_3x3': 9 * (2 * channels // 16 - 2) * (16 - 2)}
  return base // 16 * taps.get(gate, 0)


def test_macs_and_activations_of_a_basic_net_without_gates():
  stem, first, second, third, head = sizes.parts(config_of(block='basic', depth=8, gate='none'))
  assert [part.name for part in (stem, first, second, third, head)] == ['stem', 'stage1', 'stage2', 'stage3', 'head']
  assert [part.output for part in (stem, first, third, head)] == [(32, 32, 16), (32, 32, 16), (8, 8, 64), (10,)]
  assert stem.macs == 1024 * 9 * 3 * 16
  assert first.macs == 1024 * 2 * 9 * 16 * 16
  assert second.macs == 256 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32)
  assert third.macs == 64 * (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64)
  assert head.macs == 64 * 10
  assert [part.activations for part in (stem, first, second, third, head)] == [
    1024 * 16,
    2 * 1024 * 16,
    3 * 256 * 32,
    3 * 64 * 64,
    0,
  ]
  assert all(part.gate_macs == 0 for part in (stem, first, second, third, head))


@pytest.mark.parametrize('gate', [gate for gate in names.GATES if gate != 'none'])
def test_macs_of_the_gates(gate):
  """Bottlenecks of 64, 128 and 256 channels, two a stage; the exact form pools before the last convolution."""
  widths = (16, 32, 64)
  sides = (32, 16, 8)
  plain = sizes.parts(config_of(depth=20, gate=gate, gate_form='reference'))[1:4]
  exact = sizes.parts(config_of(depth=20, gate=gate, gate_form='fused'))[1:4]
  for before, width, side, one, other in zip((16, 64, 128), widths, sides, plain, exact, strict=True):
    channels = 4 * width
    layers = dense(gate, channels, width)
    assert one.gate_macs == 2 * (layers + filters(gate, channels, width))
    descriptors = 2 * width * channels  # of both residuals
    if gate not in ('se', 'eca', 'ge'):  # and of the projection, which these do not look at
      descriptors += before * channels
      if before != 16:  # with stride 2 it reads every fourth pixel: 0/1 times each of them
        descriptors += (2 * side) ** 2 * before
    taps = {'pair_1x1': 1, 'pair_2x1': 2, 'folded_3x3': 9}.get(gate, 0)
    collapsed = width // 16 * taps  # the filters are merged
    assert other.gate_macs == 2 * (layers + collapsed) + descriptors
    assert one.macs - one.gate_macs == other.macs - other.gate_macs
    assert one.activations == other.activations


def test_resnet50_as_others_publish_it():
  """torchvision's ResNet-50 has 25,557,032 parameters and 4.089 GMACs; timm lists 11.11 million activations."""
  config = config_of(224, backbone='imagenet_resnet', depth=50, preact=False, gate='none', num_classes=1000)
  whole = sizes.total(sizes.parts(config))
  assert whole.trainable == 25_557_032
  assert round(whole.macs / 1e9, 3) == 4.089
  assert round(whole.activations / 1e6, 2) == 11.11


@pytest.mark.filterwarnings('error')
def test_scanning_recomputing_freezing_and_precision_change_no_size():
  config = config_of(depth=29, gate='pair_1x1')
  want = sizes.parts(config)
  config.model.scan_blocks = config.remat = True
  assert sizes.parts(config) == want
  config.freeze = 1
  config.dtype = 'float64'
  frozen = sizes.parts(config)
  assert [part.trainable for part in frozen[:2]] == [0, 0]
  assert [part.frozen for part in frozen] == [want[0].trainable, want[1].trainable, 0, 0, 0]


def test_the_papers_figures_are_those_on_record():
  recorded = {}
  for name, net in COUNTS.items():
    if name != 'resnet110_bottleneck':  # the paper's ResNet-110 is the basic one
      figures = {GATES.get(key, key): counts['paper_millions'] for key, counts in net['variants'].items()}
      family = ('wide_resnet', 'basic') if net['family'] == 'wrn' else ('resnet', net['family'].removeprefix('resnet_'))
      recorded[*family, net['depth'], net.get('width', 1)] = {gate: x for gate, x in figures.items() if x is not None}
  assert recorded == paper.PARAMETERS


def test_all_gates_side_by_side_with_the_papers_figures():
  config = config_of(backbone='wide_resnet', block='basic', depth=28, width=10, gate='se')
  found, refused = summary.by_gate(config)
  assert refused == {}
  for key, counts in COUNTS['wrn28_10']['variants'].items():
    part = found[GATES.get(key, key)]
    assert (part.trainable, part.statistics) == (counts['trainable_10'], counts['running_stats'])
  text = summary.gates_table(found, refused, config)
  row = next(line for line in text.splitlines() if line.startswith('se *'))
  assert row.split()[-2:] == ['36.8', 'M']
  assert next(line for line in text.splitlines() if line.startswith('folded_3x3')).split()[-1] == '-'
  assert '1807.08920' in text


run = functools.partial(run_module, 'cmpe_jax.tools.summary')


def test_the_command_and_a_gate_that_the_network_cannot_have(tmp_path):
  done = run(
    '--config=configs/digits.py', '--config.model.block=basic', '--config.model.depth=8', f'--json={tmp_path}/s.json'
  )
  assert done.returncode == 0, done.stderr
  assert 'pair_1x1 *' in done.stdout
  assert 'folded_3x3 is not possible here: ' in done.stdout
  assert 'the paper' not in done.stdout
  content = json.loads((tmp_path / 's.json').read_text())
  assert list(content['gates']) == [gate for gate in names.GATES if gate != 'folded_3x3']
  macs = content['gates']['none']['macs']
  assert macs == 9 * (256 * (3 * 16 + 2 * 16 * 16) + 64 * 48 * 32 + 16 * 96 * 64) + 64 * 512 + 16 * 2048 + 640
  assert f'{macs:,}' in done.stdout


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    ([], '--config is missing'),
    (['--config=configs/digits.py', '--config.model.gate=best'], "model.gate='best' is not known"),
    (['--config=configs/digits.py', '--config.model.depth=21'], 'model.depth=21 is not 9n+2'),
  ],
)
def test_wrong_inputs(arguments, said):
  done = run(*arguments)
  assert done.returncode == 2
  assert said in done.stderr
  assert 'Traceback' not in done.stderr
