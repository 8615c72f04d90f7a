"""What a comparison says of variants that differ in more than the network."""

import json

import numpy as np
import pytest

from cmpe_jax import config as configuration
from cmpe_jax.errors import UserError
from cmpe_jax.tools.compare import cells, curves, output
from cmpe_jax.tools.compare import command as compare
from cmpe_jax.tools.compare.comparison import Comparison
from cmpe_jax.tools.compare.record import Record


def compared(workdir, *overrides):
  """A comparison on the digits whose variants change that, two finished runs of each."""
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8})
  config.update({'epochs': 1.0, 'batch_size': 100})
  variants = [cells.Variant(f'v{number}', changes) for number, changes in enumerate(overrides)]
  comparison = Comparison('digits', config, variants, cells.plan(config, variants, 2, workdir))
  found = []
  for cell in comparison.cells:
    total = 15 * cell.config.epochs
    lines = [{'step': step, 'train/loss': 2.0} for step in (5, total)]
    lines.append({'step': total, curves.accuracy(cell.config.ema_decay > 0): 0.5})
    mine = {'variant': cell.variant, 'seed': cell.seed, 'accuracy': 0.5, 'loss': 1.0, 'count': 364, 'seconds': 1.0}
    found.append(mine | {'images': 100 * total, 'curves': curves.thinned(lines, cell.config.ema_decay > 0)})
  comparison.add(found)
  return comparison


def test_epochs_that_differ_are_not_said_and_each_curve_has_its_own(tmp_path):
  comparison = compared(tmp_path, {'epochs': 1.0}, {'epochs': 3.0})
  assert comparison.notes()[0].startswith('digits, seeds 0 to 1: the weights after the last step, on all 364 test')
  lines = curves.panels(comparison.runs, comparison.values)['training loss']
  assert [lines[name][0][0][-1] for name in ('v0', 'v1')] == [1, 3]
  output.write(comparison, tmp_path)  # whose curves are drawn
  Record(tmp_path / 'results.json', comparison).add(comparison.results)
  assert json.loads((tmp_path / 'results.json').read_text())['varied'] == ['epochs']


def test_averages_are_those_of_each_variant(tmp_path):
  comparison = compared(tmp_path, {'ema_decay': 0.0}, {'ema_decay': 0.9})
  assert comparison.notes()[0].startswith(
    'digits, 1 epoch, seeds 0 to 1: the weights (their moving averages, with ema_decay) after the last step'
  )
  lines = curves.panels(comparison.runs, comparison.values)['test error, %']
  assert [len(lines[name]) for name in ('v0', 'v1')] == [2, 2]
  both = compared(tmp_path, {'ema_decay': 0.5}, {'ema_decay': 0.9})
  assert ': the moving averages of the weights after' in both.notes()[0]


def test_data_that_differ_are_not_said_and_are_each_variants_own(tmp_path):
  from PIL import Image

  for split, name in ((split, name) for split in ('train', 'test') for name in 'abc'):
    (tmp_path / 'images' / split / name).mkdir(parents=True)
    Image.new('RGB', (8, 8)).save(tmp_path / 'images' / split / name / '0.png')
  comparison = compared(tmp_path, {'dataset': 'digits'}, {'dataset': f'folder:{tmp_path}/images'})
  assert comparison.notes()[0].startswith('1 epoch, seeds 0 to 1: ')
  assert comparison.parameters['v0'] - comparison.parameters['v1'] == 7 * 65  # 10 classes, and 3
  assert comparison.recipes['v0']['dataset'] == 'digits'
  assert comparison.recipes['v1']['dataset'].startswith('folder:')
  assert str(tmp_path) not in comparison.recipes['v1']['dataset']


def test_curves_of_many_points_are_not_stretched():
  lines = [{'step': step, 'train/loss': 1.0} for step in range(1, 601)]
  result = {'images': 600 * 10, 'curves': curves.thinned(lines, averaged=False)}
  ((epochs, _),) = curves.collect({'a': {0: result}}, {'a': curves.LOSS}, {'a': (6.0, 10)}, np.asarray)['a']
  np.testing.assert_allclose(epochs, (np.arange(60) * 10 + 5.5) / 100, rtol=1e-4)


@pytest.mark.parametrize(
  ('flags', 'workdir', 'file'),
  [
    ({}, 'runs/compare_digits', 'runs/compare_digits/results.json'),
    ({'sweep': True}, 'runs/compare_digits_sweep', 'runs/compare_digits_sweep/results.json'),
    ({'results': 'docs/digits_mixup.json'}, 'runs/compare_digits_mixup', 'docs/digits_mixup.json'),
    ({'results': 'a/b.json', 'workdir': 'here'}, 'here', 'a/b.json'),
    ({'sweep': True, 'workdir': 'here'}, 'here', 'here/results.json'),
  ],
)
def test_different_comparisons_have_different_workdirs(flags, workdir, file, monkeypatch):
  import types

  given = types.SimpleNamespace(**({'workdir': None, 'results': None, 'sweep': False} | flags))
  monkeypatch.setattr(compare.flags, 'FLAGS', given)
  monkeypatch.setattr(compare.command, 'config_name', lambda: 'digits')
  assert tuple(map(str, compare.chosen_places())) == (workdir, file)
  given.workdir = 'gs://bucket/x'
  with pytest.raises(UserError, match='--workdir=gs://bucket/x is in a bucket'):
    compare.chosen_places()
