"""What version 1.0 left behind still loads: a run, an export, a prepared dataset, its words for the forms.

`golden/version_1_0` was written by that version: a ResNet-8 with pair_1x1 in the 'plain' form, one epoch of the digits.
"""

import contextlib
import json
import pathlib
import tarfile

import jax
import numpy as np
import pytest
import safetensors.numpy
from jax import export
from PIL import Image

import cmpe_jax
from cmpe_jax import config as configuration
from cmpe_jax.data import records
from cmpe_jax.errors import UserError
from cmpe_jax.models import paths
from cmpe_jax.tools.compare import cells, held
from cmpe_jax.tools.compare import command as compare
from cmpe_jax.training import trained
from cmpe_jax.training.checkpoint import Checkpoints

OLD = pathlib.Path(__file__).parent / 'golden' / 'version_1_0'


@pytest.fixture(scope='module')
def old(tmp_path_factory):
  """The unpacked files."""
  place = tmp_path_factory.mktemp('old')
  for name in ('run', 'data'):
    with tarfile.open(OLD / f'{name}.tar.gz') as tar:
      tar.extractall(place, filter='data')
  return place


@pytest.fixture(scope='module')
def expected(old):
  with np.load(old / 'before' / 'expected.npz') as found:
    return dict(found)


def test_an_old_run_is_loaded_bit_for_bit_and_gives_the_old_logits(old, expected, capsys):
  _, variables, config = cmpe_jax.load_model(str(old / 'before' / 'run'))
  assert capsys.readouterr().err.count('was written without checksums: its values are not verified\n') == 1
  named = paths.named(variables)
  assert named.keys() == expected.keys() - {'images', 'labels', 'logits'}
  for name, value in named.items():
    np.testing.assert_array_equal(value, expected[name], err_msg=name)
  assert config.model.gate_form == 'reference'
  run = trained.open_run(str(old / 'before' / 'run'), data_dir=str(old / 'before_data'))
  np.testing.assert_allclose(run.logits(run.variables, expected['images']), expected['logits'], atol=1e-5)


def test_an_old_run_is_evaluated_on_old_data_and_goes_on(old, capsys):
  workdir = str(old / 'before' / 'run')
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'pair_1x1', 'gate_form': 'plain'})
  config.update({'batch_size': 64, 'epochs': 1.0, 'learning_rate': 0.05, 'data_dir': str(old / 'before_data')})
  values = cmpe_jax.evaluate(config, workdir)
  written = [json.loads(line) for line in (pathlib.Path(workdir) / 'metrics.jsonl').read_text().splitlines()][-1]
  assert values['eval/accuracy'] == written['eval/accuracy']
  assert values['eval/loss'] == pytest.approx(written['eval/loss'], rel=1e-5)
  config.model.gate_form = 'fused'
  config.epochs = 1.5
  cmpe_jax.train(config, workdir)
  assert 'going on from the checkpoint at step 23' in capsys.readouterr().out
  with contextlib.closing(Checkpoints(workdir)) as found:
    assert found.config(found.choose('newest')).model.gate_form == 'fused'


def test_an_old_export_is_called(old, expected):
  folder = old / 'before' / 'exported'
  program = export.deserialize(bytearray((folder / 'model.stablehlo').read_bytes()))
  np.testing.assert_allclose(program.call(expected['images']), expected['logits'], atol=1e-5)
  weights = safetensors.numpy.load_file(folder / 'weights.safetensors')
  for name, value in weights.items():
    np.testing.assert_array_equal(value, expected[name], err_msg=name)
  network = cmpe_jax.from_pretrained(str(folder))
  logits = network.logits(network.variables, expected['images'])
  np.testing.assert_allclose(logits, expected['logits'], atol=1e-5)
  assert (network.dataset.augmentation, network.names) == ('crop', tuple('0123456789'))


def test_old_records_are_read(old, expected):
  images, labels = records.arrays(records.find('digits', old / 'before_data'), 'test')
  np.testing.assert_array_equal(images[:16], expected['images'])
  np.testing.assert_array_equal(labels[:16], expected['labels'])


def test_the_forms_old_names_are_read_everywhere(tmp_path):
  config = configuration.base()
  for old_name, name in (('plain', 'reference'), ('exact', 'fused')):
    config.model.gate_form = old_name
    configuration.check(config)
    assert configuration.from_plain(configuration.plain(config)).model.gate_form == name
  written = held.comparison(tmp_path, config, ['model.gate'], 'digits')  # as version 1.0 wrote it: exact
  assert written['recipe']['model.gate_form'] == 'exact'
  (tmp_path / held.RECIPE).write_text(json.dumps({key: written[key] for key in ('varied', 'recipe')}))
  two = compare.gate_variants(['none', 'se'])
  (cells.plan(config, two, 1, tmp_path)[0].place / 'checkpoints' / '12').mkdir(parents=True)
  config.model.gate_form = 'fused'
  assert held.comparison(tmp_path, config, ['model.gate'], 'digits')['recipe']['model.gate_form'] == 'exact'
  config.model.gate_form = 'reference'
  with pytest.raises(UserError, match='model.gate_form'):
    held.comparison(tmp_path, config, ['model.gate'], 'digits')


def test_keys_that_an_old_configuration_lacks_have_their_defaults():
  saved = configuration.plain(configuration.base())
  del saved['remat'], saved['warmup_start'], saved['model']['scan_blocks']
  config = configuration.from_plain(saved)
  configuration.check(config)
  assert (config.remat, config.model.scan_blocks) == (False, False)
  assert jax.tree.leaves(config.decay_fractions) == [0.5, 0.75]
  assert config.warmup_start == 0.0


def test_keys_that_decide_something_new_keep_the_old_meaning_in_old_configurations():
  saved = configuration.plain(configuration.base())
  del saved['split_by'], saved['held_out_by'], saved['eval_interpolation'], saved['orientation']
  old, new = configuration.from_plain(saved), configuration.base()
  configuration.check(old)
  assert (old.split_by, new.split_by) == ('position', 'path')
  assert (old.held_out_by, new.held_out_by) == ('position', 'class')
  assert (old.eval_interpolation, new.eval_interpolation) == ('four_pixels', 'bilinear')
  assert (old.orientation, new.orientation) == ('stored', '')
  begun = configuration.as_begun(new, old)
  assert (begun.split_by, new.split_by) == ('position', 'path')
  configuration.check_resumed(begun, old, 1)
  assert configuration.as_begun(new, configuration.from_plain(configuration.plain(new))) is new
  old.split_by = 'path'
  new.split_by = 'position'
  with pytest.raises(UserError, match="split_by: 'path' in the checkpoint, 'position' now"):
    configuration.check_resumed(configuration.as_begun(new, old), old, 1)


def test_an_old_run_on_a_folder_goes_on_with_its_split_and_is_tested_on_it(tmp_path, monkeypatch, capsys):
  for number in range(40):
    place = tmp_path / 'images' / 'ab'[number % 2] / f'{number}.png'
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (8, 8), (6 * number, 0, 0)).save(place)
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'none'})
  config.update({'dataset': f'folder:{tmp_path}/images', 'image_size': 8, 'batch_size': 8, 'epochs': 1.0})
  plain = configuration.plain
  with monkeypatch.context() as older:
    config.split_by = 'position'
    older.setattr(configuration, 'plain', lambda saved: {k: v for k, v in plain(saved).items() if k != 'split_by'})
    before = cmpe_jax.train(config, str(tmp_path / 'run'))
  config.split_by = 'path'  # today's default
  assert cmpe_jax.evaluate(config, str(tmp_path / 'run')) == pytest.approx(before)
  config.epochs = 2.0
  cmpe_jax.train(config, str(tmp_path / 'run'))
  assert 'going on from the checkpoint at step 4' in capsys.readouterr().out
  with contextlib.closing(Checkpoints(str(tmp_path / 'run'))) as found:
    assert found.config(found.choose('newest')).split_by == 'position'
  for key, value in (('split_seed', 1), ('image_size', 16)):
    other = config.copy_and_resolve_references()
    other[key] = value
    with pytest.raises(UserError, match=f'{key}: .* in the checkpoint, {value} now'):
      cmpe_jax.evaluate(other, str(tmp_path / 'run'))
