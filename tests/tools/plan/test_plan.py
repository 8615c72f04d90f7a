"""Plans for machines that are not there: sizes and operation counts that can be worked out by hand."""

import functools
import importlib.util
import json
import statistics

import jax
import pytest
from harness import ROOT, run_module

from cmpe_jax import config as configuration
from cmpe_jax.tools.plan import command as plan
from cmpe_jax.tools.plan import others, whole
from cmpe_jax.tools.shared.chips import CHIPS
from cmpe_jax.training.run import assemble

needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None, reason='the TPU compiler is not installed (requirements-plan.txt)'
)


run = functools.partial(run_module, 'cmpe_jax.tools.plan')


def test_bounds():
  program = plan.StepCost(4096, 0, 0, 0, flops=394e12, accessed=819e9 * 2, collectives={}, seconds=0.0)
  assert program.bounds(CHIPS['v5e']) == {'bandwidth': 2048.0, 'FLOPs': 2048.0}


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    (['--topology=cpu:8'], '--config is missing'),
    (['--config=configs/digits.py', '--topology=h100:2x4'], '--topology=h100:2x4 is not known'),
    (['--config=configs/digits.py', '--topology=v100:8'], '--topology=v100:8 is not known: give v5e:4x4'),
    (['--config=configs/digits.py', '--topology=h100:12'], '--topology=h100:12 cannot be: a host has 8 of them'),
    (['--config=configs/digits.py', '--topology=v5e:many'], '--topology=v5e:many is not known'),
    (['--config=configs/digits.py', '--topology=cpu:0'], '--topology=cpu:0 is not known'),
    (['--config=configs/digits.py', '--topology=cpu:1', '--share=0.4'], '--share and --price need bounds'),
    (['--config=configs/digits.py', '--topology=v5e:2x2', '--share=1.4'], '--share=1.4 is out of range'),
    (['--config=configs/digits.py', '--topology=cpu:7'], 'does not divide by 7 devices'),
    pytest.param(
      ['--config=configs/digits.py', '--topology=h100:8'],
      '--topology=h100:8 needs the GPU compiler: run pip install -r requirements-plan-gpu.txt',
      marks=pytest.mark.skipif(importlib.util.find_spec('jax_plugins') is not None, reason='the GPU compiler is here'),
    ),
    pytest.param(
      ['--config=configs/digits.py', '--topology=v5e:3x3'], 'v5e:3x3 cannot be: INVALID_ARGUMENT', marks=needs_libtpu
    ),
  ],
)
def test_wrong_inputs(arguments, said):
  done = run(*arguments)
  assert done.returncode == 2
  assert said in done.stderr
  assert 'Traceback' not in done.stderr


SMALL = ('--config=configs/digits.py', '--config.model.block=basic', '--config.model.depth=8', '--config.batch_size=64')


def check(program, devices, padding):
  """A basic ResNet-8 without a gate on 16x16 images: its size and its arithmetic, worked out by hand.

  `padding`: how far arrays may be larger on the device (a TPU fills up tiles of 8 by 128).
  """
  kernels = 3 * 16 + 16 * 16 * 2 + (16 + 32) * 32 + (32 + 64) * 64  # of the 3x3 convolutions, per tap
  parameters = 9 * kernels + 16 * 32 + 32 * 64 + 64 * 10 + 10
  parameters += 2 * (16 + 16 + 16 + 32 + 32 + 64 + 64)  # scales and offsets; the first normalization has none
  statistics = 2 * (3 + 16 + 16 + 16 + 32 + 32 + 64 + 64)
  state = 4 * (2 * parameters + statistics)  # and the momentum
  resident = 1433 * (16 * 16 * 3 + 4)
  least = state + resident + 4 * program['images'] // devices
  assert least <= program['arguments'] <= padding * least
  # 16x16 positions in the first stage and the first convolution, 8x8 and 4x4 in the others.
  products = (
    9 * (256 * (3 * 16 + 2 * 16 * 16) + 64 * (16 + 32) * 32 + 16 * (32 + 64) * 64) + 64 * 16 * 32 + 16 * 32 * 64
  )
  forward = 2 * products * program['images'] / devices
  assert 2.4 * forward < program['flops'] < 4.5 * forward  # forward, and backward twice; borders and the rest
  number, size = program['collectives']['all-reduce']
  assert number >= 1
  assert 4 * parameters <= size <= 4 * (parameters + 4 * statistics)  # gradients, batch statistics and their gradients
  assert program['peak'] >= program['arguments'] + program['temporary'] // 2


def test_a_plan_for_fake_devices_has_the_numbers_of_a_small_net(tmp_path):
  done = run(*SMALL, '--config.model.gate=none', '--topology=cpu:4', f'--json={tmp_path}/plan.json')
  assert done.returncode == 0, done.stderr
  assert 'peak memory' in done.stdout
  assert 'bound' not in done.stdout
  found = json.loads((tmp_path / 'plan.json').read_text())
  assert found['train']['images'] == found['eval']['images'] == 64
  check(found['train'], devices=4, padding=1.1)
  assert found['disk']['data'] == (1433 + 364) * 16 * 16 * 3
  assert 'whole run' not in done.stdout
  assert 'others' not in done.stdout


@pytest.mark.slow
def test_micro_batches_cost_the_same_and_need_less_memory(tmp_path):
  found = {}
  for parts in (1, 4):
    file = tmp_path / f'{parts}.json'
    done = run(
      *SMALL,
      '--config.model.gate=none',
      '--config.batch_size=256',
      f'--config.accumulate_steps={parts}',
      '--topology=cpu:2',
      f'--json={file}',
    )
    assert done.returncode == 0, done.stderr
    found[parts] = json.loads(file.read_text())['train']
  assert found[4]['images'] == found[1]['images'] == 256
  assert found[4]['flops'] == pytest.approx(found[1]['flops'], rel=0.05)
  assert found[4]['temporary'] < 0.5 * found[1]['temporary']


def small(**keys):
  """The plan of a small net for two fake devices, in this process."""
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'none'})
  config.update({'batch_size': 128})
  for key, value in keys.items():
    (config.model if key in config.model else config)[key] = value
  return plan.Plan(assemble(config, jax.devices()[:2]))


def test_frozen_stages_and_recomputation_change_the_plan():
  whole, frozen = (small(**keys).train() for keys in ({}, {'freeze': 2}))
  # No gradient of the first two stages: less is computed, kept and sent.
  assert frozen.flops < 0.7 * whole.flops
  assert frozen.temporary < 0.7 * whole.temporary
  last = 4 * (9 * (32 + 64) * 64 + 32 * 64 + 64 * 10 + 10)  # the kernels of the third stage and the classifier
  assert last <= frozen.collectives['all-reduce'][1] < 1.1 * last < whole.collectives['all-reduce'][1]
  # Forward once more, but for the stem and the classifier, in a net of nine blocks.
  whole, again = (small(depth=20, remat=remat).train() for remat in (False, True))
  assert 1.1 * whole.flops < again.flops < 1.4 * whole.flops
  assert again.temporary < 0.7 * whole.temporary


def test_blocks_in_a_loop_are_counted_one_by_one_and_kept_as_they_run():
  unrolled, looped = (small(depth=26, scan_blocks=looped).evaluate() for looped in (False, True))
  for name in ('flops', 'accessed', 'collectives', 'images', 'arguments'):
    assert getattr(looped, name) == getattr(unrolled, name), name
  assert looped.temporary != unrolled.temporary


@pytest.mark.slow
def test_blocks_and_micro_batches_in_loops_are_counted_one_by_one():
  unrolled, looped = (
    small(depth=26, accumulate_steps=2, scan_blocks=looped, remat=looped, batch_size=256) for looped in (False, True)
  )
  few, many = looped.train(), unrolled.train()
  assert 1.1 * many.flops < few.flops < 1.4 * many.flops
  assert few.temporary < many.temporary


@needs_libtpu
@pytest.mark.slow
def test_a_plan_for_a_slice_that_is_not_there(tmp_path):
  done = run(*SMALL, '--config.model.gate=none', '--topology=v5e:2x2', f'--json={tmp_path}/plan.json')
  assert done.returncode == 0, done.stderr
  assert '4 x TPU v5 lite' in done.stdout
  assert 'bound by bandwidth' in done.stdout
  check(json.loads((tmp_path / 'plan.json').read_text())['train'], devices=4, padding=2)


@needs_libtpu
@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_said(tmp_path):
  done = run(*SMALL, '--config.model.gate=none', '--topology=v5e:2x2', '--config.batch_size=4000000')
  assert done.returncode == 2
  assert 'it does not fit. Ran out of memory' in done.stderr


def growing(**keys):
  """The 16-epoch recipe for four fake devices, with a small net."""
  config = configuration.load('imagenet_cmpe50_16ep')
  config.model.update(
    {'backbone': 'resnet', 'block': 'basic', 'depth': 8, 'gate': 'none', 'blur_pool': False, 'preact': True}
  )
  config.update({'batch_size': 8, 'image_size': 64, 'train_image_sizes': (32, 48), 'model': config.model} | keys)
  return assemble(config, jax.devices()[:4])


@pytest.mark.slow
def test_each_size_of_the_images_is_a_program_of_its_own():
  found = plan.compiled(growing())
  assert list(found) == ['train 32', 'train 48', 'eval']
  assert found['train 48'].flops == pytest.approx(found['train 32'].flops * (48 / 32) ** 2, rel=0.05)


def test_the_whole_run_by_hand():
  run = growing(batch_size=4096, ema_decay=0.9, validation=0.0)
  todo = whole.work(run)
  assert todo.steps == {
    32: 3754,
    48: 1251,
  }  # 16 epochs of 1,281,167 images are 5004.6 steps; three quarters, rounded up
  assert (todo.evaluations, todo.evaluated) == (32, 50_000)  # once an epoch, the moving averages besides
  train = {32: whole.Speed(4096, 40_960.0), 48: whole.Speed(4096, 20_480.0)}
  asked = whole.Asked(share=0.5, price=3.0)
  rows, values = whole.rows(run, train, whole.Speed(10_000, 10_000.0), 4, asked)
  hours = (3754 * 0.1 + 1251 * 0.2 + 32 * 5) / 3600
  assert values['at']['1'] == pytest.approx(
    {'hours': hours, 'chip_hours': 4 * hours, 'images_per_second': 40_960, 'cost': 12 * hours, 'cores': 54}
  )
  assert values['at']['0.5'] == pytest.approx(
    {'hours': 2 * hours, 'chip_hours': 8 * hours, 'images_per_second': 20_480, 'cost': 24 * hours, 'cores': 27}
  )
  assert rows[3] == ['together', f'{hours:.3g} h', f'{2 * hours:.3g} h']
  _, values = whole.rows(run, train, whole.Speed(10_000, 10_000.0), 4, whole.Asked(rate=100.0))
  assert (values['at']['1']['cores'], list(values['at'])) == (410, ['1'])


def test_a_share_of_all_is_the_bounds_themselves():
  run, speed = growing(), whole.Speed(4096, 40_960.0)
  given = [whole.Asked(share=share) for share in (0.0, 1.0, 0.9999999)]
  none, every, most = (whole.rows(run, {32: speed, 48: speed}, speed, 1, asked) for asked in given)
  assert (none == every, list(most[1]['at'])) == (True, ['1', '0.9999999'])


def test_the_rates_of_reading_are_those_that_were_measured():
  measured = json.loads((ROOT / 'benchmarks' / 'input.json').read_text())['sources']
  for name, rate in (('untouched originals', whole.RATE), ('stored at shorter side 256', whole.RATE_STORED)):
    assert rate == round(statistics.median(measured[name]['ours']['images_per_cpu_second']))


def test_disk(tmp_path):
  run = growing(ema_decay=0.9, validation=0.1, keep_checkpoints=3)
  variables = run.variable_shapes()
  params, statistics = (
    sum(leaf.size for leaf in jax.tree.leaves(variables[name])) for name in ('params', 'batch_stats')
  )
  said, found = whole.disk(run)
  # Parameters, momentum, averages; statistics and theirs; the step, and the optimizer's own count of steps.
  assert found['checkpoint'] == pytest.approx(4 * (3 * params + 2 * statistics), abs=16)
  assert found['checkpoints'] == 5 * found['checkpoint']  # three, the best one, and one while it is written
  assert '154.6 GB' in said[0]
  assert '38.5 GB' in whole.disk(growing(stored_side=256))[0][0]


def test_what_others_report_is_said_to_be_theirs():
  lines = others.table().splitlines()
  assert lines[0].startswith('what others report')
  assert len(lines) == 1 + len(others.REPORTED)
  assert all(each[-1].startswith(('github.com/', 'www.')) for each in others.REPORTED)
