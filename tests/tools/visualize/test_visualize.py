import csv
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from cmpe_jax.data import splits
from cmpe_jax.errors import UserError
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.tools.visualize import command as visualize
from cmpe_jax.tools.visualize import figures
from cmpe_jax.training import trained


@pytest.fixture(scope='module')
def run(workdir):
  return trained.open_run(workdir)


@pytest.fixture(scope='module')
def seen(run):
  images, names = visualize.first_of_split(run, 'test', 3)
  views, probabilities = visualize.look(run, images, visualize.chosen_blocks(run))
  return images, names, views, probabilities


def test_the_map_holds_the_means_of_the_feature_maps_and_its_filter(run, seen):
  images, _, views, _ = seen
  view = views[1]
  assert view.block == 'stage2_block0'

  def inside(variables, images):
    _, state = run.model.apply(variables, run.normalize(images), capture_intermediates=True, mutable=['intermediates'])
    block = state['intermediates'][view.block]
    return block['conv2']['__call__'][0][0], block['shortcut']['__call__'][0][0]

  residual, identity = (np.asarray(y).mean((1, 2)) for y in jax.jit(inside)(run.variables, images))
  assert view.seen.shape == (3, 4, 16)
  for channel in (0, 5, 17, 31):
    place = (slice(None), channel // 16 * 2, channel % 16)
    np.testing.assert_allclose(view.seen[place], residual[:, channel], atol=1e-5)
    np.testing.assert_allclose(view.seen[:, channel // 16 * 2 + 1, channel % 16], identity[:, channel], atol=1e-5)
  kernel = np.asarray(run.variables['params'][view.block]['gate']['map_conv']['kernel'])[0, 0, 0]
  norm = (
    run.variables['params'][view.block]['gate']['map_bn'] | run.variables['batch_stats'][view.block]['gate']['map_bn']
  )
  norm = {name: np.asarray(value) for name, value in norm.items()}
  maps = view.seen[..., None] * kernel
  want = ((maps - norm['mean']) / np.sqrt(norm['var'] + 1e-5) * norm['scale'] + norm['bias']).mean(-1)
  np.testing.assert_allclose(view.filtered, want, atol=1e-4)


@pytest.mark.parametrize('gate', ['pair_2x1', 'folded_3x3', 'double_fc', 'eca', 'ge'])
def test_every_gate_has_a_view(gate, make_run):
  run = trained.open_run(make_run(gate=gate, block='bottleneck', depth=11))
  images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
  (view,), probabilities = visualize.look(run, images, ['stage1_block0'])
  assert view.seen.shape == (2, 8, 16)
  assert view.scale.shape == (2, 64)
  shapes = {'pair_2x1': (2, 4, 16), 'folded_3x3': (2, 6, 14)}
  assert (None if view.filtered is None else view.filtered.shape) == shapes.get(gate)
  np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_scales_that_are_known(run):
  """A gate whose last layer is zero gives sigmoid(0) everywhere."""
  silent = jax.tree_util.tree_map_with_path(
    lambda path, leaf: np.zeros_like(leaf) if 'excite' in str(path) else leaf, run.variables
  )
  scales = visualize.measure(trained.Trained(run.model, silent, run.config, run.dataset, run.names), 'test')
  split = splits.open_split(run.config, run.dataset, 'test', meshes.make(jax.devices()[:1]))
  counts = np.bincount(split.resident['label'])
  channels = np.array([16, 32, 64])
  np.testing.assert_array_equal(scales.histograms.sum(-1), counts * channels[:, None])
  np.testing.assert_array_equal(scales.histograms[..., visualize.BINS // 2], counts * channels[:, None])
  mean, deviation = scales.moments()
  np.testing.assert_allclose(mean, 0.5)
  np.testing.assert_allclose(deviation, 0, atol=1e-7)


def test_what_cannot_be_shown(run, make_run):
  with pytest.raises(UserError, match="'stage9_block0' is not known"):
    visualize.look(run, np.zeros((1, 16, 16, 3), np.uint8), ['stage9_block0'])
  with pytest.raises(UserError, match="model.gate='none'"):
    visualize.chosen_blocks(trained.open_run(make_run(gate='none')))


def test_figures_have_a_row_an_image_and_a_panel_a_stage(seen):
  images, names, views, _ = seen
  assert len(set(names)) == 3
  drawn = figures.draw_maps(images, names, views, 'pair_1x1')
  assert len(drawn.axes) == 3 * (1 + 3 * len(views))
  rng = np.random.default_rng(0)
  many = figures.draw_scales(rng.integers(0, 9, (3, 100, 50)), rng.random((3, 100)), ['x'] * 100, 'many classes')
  assert len(many.axes) == 6


def test_the_command_writes_figures_and_numbers(workdir, tmp_path):
  image = tmp_path / 'one.png'
  Image.new('RGB', (20, 30), (9, 99, 200)).save(image)
  command = [sys.executable, '-m', 'cmpe_jax.tools.visualize', f'--workdir={workdir}', f'--output={tmp_path}/figures']
  done = subprocess.run([*command, str(image)], capture_output=True, text=True, timeout=200)
  assert done.returncode == 0, done.stderr
  for name in ('maps.png', 'scales.png'):
    with Image.open(tmp_path / 'figures' / name) as picture:
      assert picture.width > 600
  with (tmp_path / 'figures' / 'scales.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 30
  assert all(0 < float(row['mean']) < 1 for row in rows)


def test_weights_without_a_run_have_figures_of_their_dataset(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  visualize.main(['--pretrained=digits', '--count=2'])
  assert capsys.readouterr().out.split() == ['figures/maps.png', 'figures/scales.png', 'figures/scales.csv']
  with (tmp_path / 'figures' / 'scales.csv').open() as file:
    rows = list(csv.DictReader(file))
  network = trained.from_pretrained('digits')
  images, labels = network.dataset.content.arrays('test')
  _, sown = visualize._apply(network, network.variables, images[labels == 3])
  want = np.concatenate([np.asarray(sown[f'stage2_block{block}']['scale'][0]).ravel() for block in range(2)])
  (found,) = (float(row['mean']) for row in rows if (row['stage'], row['class']) == ('2', '3'))
  assert found == pytest.approx(want.mean(), abs=2e-6)


@pytest.mark.parametrize('taken', ['figures', 'figures/scales.csv'])
def test_figures_that_cannot_be_written_are_named(tmp_path, taken):
  """A file where the folder should be, and a folder where a file should be."""
  output = tmp_path / 'figures'
  if taken == 'figures':
    output.touch()
  else:
    (tmp_path / taken).mkdir(parents=True)
  with pytest.raises(UserError, match=f'{output} cannot be written .*: give another --output'):
    visualize.main(['--pretrained=digits', '--count=2', f'--output={output}'])
