"""Comparisons of other things than gates: what each variant has for itself is taken from the variant."""

import xml.etree.ElementTree

import numpy as np

from cmpe_jax import config as configuration
from cmpe_jax.data import datasets
from cmpe_jax.tools.board import gathered, page, pictures
from cmpe_jax.tools.shared import results

BATCH = 128


def swept(path, variants, curves, counts=(364, 364), **recipe):
  """What the board makes of a file: a run of each of two variants, of 100 steps an epoch."""
  config = configuration.load('digits')
  config.update({'batch_size': BATCH} | recipe)
  dataset = datasets.describe(config)
  names = [', '.join(f'{key}={value}' for key, value in each.items()) for each in variants]
  runs = []
  for name, changes, kept, count in zip(names, variants, curves, counts, strict=True):
    images = int(BATCH * 100 * changes.get('epochs', config.epochs))
    found = {'variant': name, 'seed': 0, 'accuracy': 0.5, 'loss': 0.2, 'count': count, 'seconds': 9.0}
    runs.append(found | {'images': images, 'curves': kept})
  content = {
    'format': results.FORMAT,
    'config': 'digits',
    'recipe': results.recipe(dataset.resolve(config), dataset),
    'varied': sorted({key for each in variants for key in each}),
    'variants': dict(zip(names, variants, strict=True)),
    'references': names[:1],
    'seeds': [0],
    'test_images': counts[0],
    'runs': runs,
    'rows': [{'name': name, 'parameters': 1000} for name in names],
    'notes': [],
  }
  path.write_text(results.text(content))
  (each,) = gathered.gather([path])
  return each


def test_epochs(tmp_path):
  curves = {'train/loss': [[50.0, 100.0], [2.0, 1.0]]}, {'train/loss': [[50.0, 190.0], [2.0, 1.0]]}
  each = swept(tmp_path / 'a.json', [{'epochs': 1.0}, {'epochs': 2.0}], curves)
  assert '\nThe weights after the last step, on all 364 test images. Mean ±' in page.page([each], {})
  lines = pictures._panels(each)['training loss']
  np.testing.assert_allclose(lines['epochs=1.0'][0][0], [0.5, 1])
  np.testing.assert_allclose(lines['epochs=2.0'][0][0], [0.5, 1.9])  # the last point is a mean of several steps
  assert xml.etree.ElementTree.fromstring(pictures.svg(each)) is not None


def test_moving_averages_and_data(tmp_path):
  curves = {'eval/accuracy': [[100.0], [0.5]]}, {'eval_ema/accuracy': [[100.0], [0.75]]}
  variants = [{'ema_decay': 0.0}, {'ema_decay': 0.9, 'dataset': 'folder:/images'}]
  each = swept(tmp_path / 'a.json', variants, curves, counts=(364, 200))
  said = '20 epochs; the weights (their moving averages, with ema_decay) after the last step, on all test images.'
  assert said in page.page([each], {})
  errors = [values.tolist() for lines in pictures._panels(each)['test error, %'].values() for _, values in lines]
  assert errors == [[50], [25]]


def test_one_epoch_is_called_so(tmp_path):
  each = swept(tmp_path / 'a.json', [{'momentum': 0.5}, {'momentum': 0.9}], ({}, {}), epochs=1.0)
  assert '\n1 epoch; the weights' in page.page([each], {})
