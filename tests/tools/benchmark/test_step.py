"""The comparison of gates: costs and times of small nets, against numbers that can be worked out by hand."""

import functools
import importlib.util
import json

import jax
import numpy as np
import pytest
from harness import run_module

from cmpe_jax import config as configuration
from cmpe_jax.errors import UserError
from cmpe_jax.tools.benchmark import costs, programs, step, times
from cmpe_jax.tools.benchmark.programs import Setting

SMALL = ('--config=configs/digits.py', '--config.model.block=basic', '--config.model.depth=8', '--config.batch_size=4')
needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None, reason='the TPU compiler is not installed (requirements-plan.txt)'
)


run = functools.partial(run_module, 'cmpe_jax.tools.benchmark')


def small(**keys):
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8})
  config.update({'batch_size': 4, **keys})
  return config


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    ([], 'which benchmark? Usage:'),
    (['stop'], "'stop' is not a benchmark"),
    (['step'], '--config is missing'),
    (['step', *SMALL, '--gates=none,cbam'], "--gates='cbam' is not known. Choose one of: 'none', 'se'"),
    (['step', *SMALL, '--rounds=0'], 'rounds'),
    (['step', *SMALL, '--breakdown=3'], 'are of --topology, which is not given'),
    (['step', *SMALL, '--topology=v5e:2x4', '--config.accumulate_steps=2'], 'counts the inside of a loop once'),
    (['step', *SMALL, '--topology=cpu:1', '--json=README.md'], '--json=README.md is not a file of this command'),
  ],
)
def test_wrong_inputs(arguments, said):
  done = run(*arguments)
  assert done.returncode == 2
  assert said in done.stderr
  assert 'Traceback' not in done.stderr


@pytest.mark.parametrize(('mode', 'side'), [('train', 24), ('infer', 32)])
def test_a_training_step_has_the_largest_images_of_training(tmp_path, mode, side):
  for name in ('train/a', 'train/b', 'test/a', 'test/b'):
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / '0.png').touch()
  config = small(dataset=f'folder:{tmp_path}', augmentation='random_resized', image_size=32)
  config.update({'train_image_sizes': (16, 24), 'train_size_fractions': (0.5,)})
  program = programs.program(config, Setting('pre', 'none', '-', mode), jax.devices()[0])
  assert program.shapes[2]['image'].shape[-4:] == (4, side, side, 3)


@pytest.mark.parametrize(
  ('flag', 'chosen'),
  [
    ('--orders', (['middle'], ['se'], ['reference'], ['train'])),
    ('--forms', (['pre'], ['se'], ['fast'], ['train'])),
    ('--modes', (['pre'], ['se'], ['reference'], ['predict'])),
  ],
)
def test_unknown_names(flag, chosen):
  with pytest.raises(UserError, match=f"^{flag}='.*' is not known. Choose one of: '"):
    programs.settings(*chosen)


def test_an_order_that_the_network_does_not_have():
  with pytest.raises(UserError, match='model.preact=False is for imagenet_resnet'):
    programs.program(small(), Setting('post', 'none', '-', 'infer'), jax.devices()[0])


def test_cells_are_all_combinations_and_without_a_gate_there_is_one_form():
  found = programs.settings(['post'], ['none', 'se'], ['reference', 'fused'], ['train', 'infer'])
  assert [cell.name for cell in found] == [
    'post none - infer',
    'post se reference infer',
    'post se fused infer',
    'post none - train',
    'post se reference train',
    'post se fused train',
  ]
  assert {cell.reference for cell in found} == {found[0], found[3]}


def test_costs_of_a_small_net_and_a_second_run_that_compiles_nothing(tmp_path):
  """FLOPs of a basic ResNet-8 on 16x16 images, worked out by hand: 16x16, 8x8 and 4x4 positions in the stages."""
  file = tmp_path / 'costs.json'
  command = ('step', *SMALL, '--gates=none,se', '--forms=exact', '--modes=infer', '--topology=cpu:1', f'--json={file}')
  first = run(*command, f'--programs={tmp_path}/programs')
  assert first.returncode == 0, first.stderr
  assert first.stderr.count('compiling') == 2
  assert (tmp_path / 'programs' / 'pre_se_fused_infer.txt').read_text().startswith('HloModule')

  found = json.loads(file.read_text())
  none, se = (found['cells'][name] for name in ('pre none - infer', 'pre se fused infer'))

  def taps(size, stride=1):  # (position, tap) pairs of a 3x3 filter with a border of zeros, which no one multiplies
    outputs = range(0, size, stride)
    return sum(0 <= row + tap < size for row in outputs for tap in (-1, 0, 1)) ** 2

  products = taps(16) * (3 * 16 + 2 * 16 * 16) + taps(16, 2) * 16 * 32 + taps(8) * 32 * 32 + 8 * 8 * 16 * 32
  products += taps(8, 2) * 32 * 64 + taps(4) * 64 * 64 + 4 * 4 * 32 * 64 + 64 * 10
  assert 2 * 4 * products < none['flops'] < 1.1 * 2 * 4 * products
  gates = 2 * 4 * sum(2 * c * (c // 16) for c in (16, 32, 64))
  assert none['flops'] + gates < se['flops']
  parameters = 9 * (3 * 16 + 2 * 16 * 16 + (16 + 32) * 32 + (32 + 64) * 64) + 16 * 32 + 32 * 64 + 64 * 10
  assert 4 * parameters + 4 * 16 * 16 * 3 < none['peak'] - none['temporary'] < 1.2 * 4 * parameters + 4 * 16 * 16 * 3
  assert none['accessed'] > 4 * parameters

  found['cells']['pre none - infer']['flops'] = 7.0  # to see where the second run has it from
  file.write_text(json.dumps(found))
  second = run(*command, '--breakdown=3')
  assert second.returncode == 0, second.stderr
  assert 'compiling' not in second.stderr
  assert json.loads(file.read_text()) == found
  table = second.stdout.splitlines()
  assert [line.split()[:4] for line in table[4:6]] == [['pre', 'none', '-', 'infer'], ['pre', 'se', 'fused', 'infer']]
  assert table[4].split()[5] == '1.0000'

  changed = run(*command, '--config.model.gate_bias=True')  # another program with a gate, the same one without
  assert changed.returncode == 0, changed.stderr
  assert changed.stderr.count('compiling') == 1
  assert 'compiling pre se fused infer' in changed.stderr

  other = run(*command, '--config.batch_size=8')
  assert other.returncode == 2
  assert 'holds figures of batch_size=4, and this command asks for 8' in other.stderr


def test_files_of_costs_keep_what_another_command_wrote(tmp_path):
  file = tmp_path / 'deep' / 'costs.json'
  one, two = costs.Store(file, {'a': 1}), costs.Store(file, {'a': 1})
  one.put('x', {'flops': 1})
  two.put('y', {'flops': 2})
  assert two.cells == {'x': {'flops': 1}, 'y': {'flops': 2}} == costs.read(file)['cells']
  assert [path.name for path in file.parent.iterdir()] == ['costs.json']
  with pytest.raises(UserError, match='holds figures of a=1, and this command asks for 2'):
    costs.Store(file, {'a': 2})


def test_times_of_a_small_net(tmp_path):
  file = tmp_path / 'times.json'
  done = run('step', *SMALL, '--gates=none,pair_1x1', '--forms=exact', '--modes=infer', '--rounds=3', f'--json={file}')
  assert done.returncode == 0, done.stderr
  found = json.loads(file.read_text())
  assert found['about']['batch_size'] == 4
  cells = found['cells']
  assert list(cells) == ['pre none - infer', 'pre pair_1x1 fused infer']
  for name, own in cells.items():
    none = cells[Setting(*name.split()).reference.name]
    ratios = np.divide(own['rounds'], none['rounds'])
    np.testing.assert_allclose(own['ratio']['median'], np.median(ratios), rtol=0.01)
    assert own['images_per_second'] == pytest.approx(4 / np.median(own['rounds']), rel=0.01)
    assert own['peak'] > own['temporary'] > 0
    assert own['compiling'] > 0
  assert set(cells['pre none - infer']['ratio'].values()) == {1.0}
  table = done.stdout.splitlines()[3:]
  assert len(table) == 3
  assert len({line.index(' s', 60) for line in table[1:]}) == 1  # the last column ends in one place

  kept = {'about': {'topology': 'v5e:2x4'}, 'cells': {}}
  file.write_text(json.dumps(kept))
  refused = run('step', *SMALL, '--gates=none', '--rounds=1', f'--json={file}')
  assert refused.returncode == 2
  assert 'holds costs for another device' in refused.stderr
  assert json.loads(file.read_text()) == kept


def test_training_goes_on_from_call_to_call():
  """Each call of a turn is one more step of the optimizer; inference changes nothing."""
  trained = times.Runner(small(), Setting('pre', 'none', '-', 'train'), jax.devices()[0])
  state = trained._arguments[0]
  before = int(state.step)
  assert before == 1 + 1  # two turns of one call
  trained.turn()
  assert int(trained._arguments[0].step) == before + trained.calls
  assert trained.calls > 1
  assert trained.images == 4


def test_rounds_alternate_and_ratios_are_those_of_a_round():
  order = []
  turns = {name: lambda name=name: order.append(name) or float(len(order)) for name in 'ABC'}
  found = times.interleave(turns, 3)
  assert ''.join(order) == 'ABCABCABC'
  assert found == {'A': [1, 4, 7], 'B': [2, 5, 8], 'C': [3, 6, 9]}
  values = times.summary(found['B'], found['A'], images=10)
  assert values['seconds'] == {'median': 5, 'low': 2, 'high': 8}
  assert values['images_per_second'] == 2
  assert values['ratio'] == {'median': 1.25, 'low': 8 / 7, 'high': 2}
  assert 'ratio' not in times.summary(found['B'], None, images=10)


def test_breakdown_shows_the_largest_differences_first():
  def group(size):
    return {'count': 1, 'size': size, 'outside': size // 2}

  cell = Setting('pre', 'se', 'reference', 'infer')
  found = {
    cell.name: {'groups': {'stem': group(5 * 10**9), 'stage1 first gate': group(2 * 10**9)}},
    cell.reference.name: {'groups': {'stem': group(4 * 10**9), 'ends': group(3 * 10**9)}},
  }
  rows = step.group_rows(found, cell, 2)
  assert rows[1] == ['ends', '0', '0.0000', '3.0000', '-3.0000', '-1.5000']
  assert rows[2] == ['stage1 first gate', '1', '2.0000', '0.0000', '2.0000', '1.0000']
  assert rows[3] == ['all', '2', '7.0000', '7.0000', '0.0000', '0.0000']
  assert step.aligned([['a', 'bb'], ['ccc', 'd']]) == 'a    bb\nccc   d'


@needs_libtpu
@pytest.mark.slow
def test_costs_for_a_chip_that_is_not_there(tmp_path):
  file = tmp_path / 'costs.json'
  command = ('step', *SMALL, '--gates=none', '--modes=infer', '--topology=v5e:2x4', f'--json={file}')
  done = run(*command, '--breakdown=3')
  assert done.returncode == 0, done.stderr
  assert 'one TPU v5 lite' in done.stdout
  own = json.loads(file.read_text())['cells']['pre none - infer']
  total = sum(group['size'] for group in own['groups'].values())
  assert 0.8 * own['accessed'] < total < 1.2 * own['accessed']
