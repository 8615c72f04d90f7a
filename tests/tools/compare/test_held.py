"""What lies in a workdir of a comparison counts only if it is of this recipe and of these images."""

import json
import shutil

import pytest
from PIL import Image

from cmpe_jax import config as configuration
from cmpe_jax.config import plain
from cmpe_jax.errors import UserError
from cmpe_jax.tools.compare import cells, held
from cmpe_jax.tools.compare import command as compare
from cmpe_jax.tools.compare.comparison import Comparison

FIGURES = {'accuracy': 0.5, 'loss': 1.0, 'count': 364, 'seconds': 9.0, 'images': 100}


def small_config(**values):
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8})
  config.update({'epochs': 4.0} | values)
  return config


def asked(workdir, config, variants=None):
  """What the command makes of its flags, and what it finds finished: by cell."""
  variants = variants or compare.gate_variants(['none', 'se'])
  comparison = Comparison('digits', config, variants, cells.plan(config, variants, 2, workdir))
  claimed = held.comparison(workdir, config, comparison.varied, comparison.recipe['dataset'])
  workdir.mkdir(exist_ok=True)
  (workdir / held.RECIPE).write_text(json.dumps(claimed))
  return comparison, {str(cell): cell.result(comparison.recipes[cell.variant]) for cell in comparison.cells}


def finish(comparison, older=False):
  """Writes what runs leave; `older`: as before the recipe lay beside the figures."""
  for cell in comparison.cells:
    cell.place.mkdir(parents=True)
    (cell.place / held.CONFIG).write_text(json.dumps(plain(cell.config)))
    kept = {} if older else {'recipe': comparison.recipes[cell.variant]}
    mine = {'variant': cell.variant, 'seed': cell.seed}
    (cell.place / held.RESULT).write_text(json.dumps(mine | FIGURES | kept))
  if older:
    path = comparison.cells[0].place.parents[2] / held.RECIPE
    path.write_text(json.dumps({key: json.loads(path.read_text())[key] for key in ('varied', 'recipe')}))


@pytest.fixture(params=[False, True], ids=['now', 'older'])
def finished(request, tmp_path):
  """A workdir whose runs are finished and whose checkpoints are gone."""
  comparison, found = asked(tmp_path, small_config())
  assert set(found.values()) == {None}
  finish(comparison, request.param)
  return tmp_path


def folder(path, larger=False):
  """Two classes of images."""
  for split, name, number in ((s, n, i) for s in ('train', 'test') for n in 'ab' for i in range(2)):
    (path / split / name).mkdir(parents=True, exist_ok=True)
    side = 40 if larger and split == 'test' else 8
    Image.new('RGB', (side, side), (90 * number, 0, 0)).save(path / split / name / f'{number}.png')
  return f'folder:{path}'


def test_the_same_recipe_goes_on(finished):
  free = {'data_dir': '/elsewhere', 'input_threads': 3}
  _, found = asked(finished, small_config(**free))
  assert found['se, seed 1'] == {'variant': 'se', 'seed': 1} | FIGURES
  assert all(found.values())
  assert 'data' in json.loads((finished / held.RECIPE).read_text())  # of whichever version


def test_another_recipe_is_refused_though_no_checkpoint_is_left(finished):
  before = (finished / held.RECIPE).read_text()
  with pytest.raises(UserError, match=r'(?s)another recipe:\n  learning_rate: 0.1 there, 0.5 now\n.*another --workdir'):
    asked(finished, small_config(learning_rate=0.5))
  assert (finished / held.RECIPE).read_text() == before


def test_runs_are_held_against_what_lies_beside_them_too(finished):
  """As an earlier version left it: comparison.json has been overwritten, or somebody has removed it."""
  config, variants = small_config(learning_rate=0.5), compare.gate_variants(['none', 'se'])
  (finished / held.RECIPE).unlink()
  with pytest.raises(UserError, match=r'(?s)^none, seed 0 was run in .*  learning_rate: 0.1 there, 0.5 now\nSet these'):
    asked(finished, config, variants)
  (finished / held.RECIPE).unlink()
  assert all(asked(finished, small_config())[1].values())


def test_a_run_in_the_folder_of_another_seed_is_refused(finished):
  shutil.copy(finished / 'cells/se/seed0/result.json', finished / 'cells/se/seed1/result.json')
  with pytest.raises(UserError, match=r'(?s)^se, seed 1 was run in .*  seed: 0 there, 1 now\n'):
    asked(finished, small_config())


def test_a_run_of_an_older_version_without_its_configuration_is_what_comparison_json_says(tmp_path):
  comparison, _ = asked(tmp_path, small_config())
  finish(comparison, older=True)
  for cell in comparison.cells:
    (cell.place / held.CONFIG).unlink()
  assert all(asked(tmp_path, small_config())[1].values())
  with pytest.raises(UserError, match='learning_rate: 0.1 there, 0.5 now'):
    asked(tmp_path, small_config(learning_rate=0.5))
  (tmp_path / held.RECIPE).unlink()
  with pytest.raises(UserError, match=r'result\.json does not say what was run, and .*comparison\.json, which older'):
    asked(tmp_path, small_config())


def test_other_images_under_the_same_path_are_refused(tmp_path):
  config = small_config(dataset=folder(tmp_path / 'images'))
  comparison, _ = asked(tmp_path / 'runs', config)
  finish(comparison)
  assert all(asked(tmp_path / 'runs', config)[1].values())
  folder(tmp_path / 'images', larger=True)
  said = r"  dataset: 'folder:\w{16}' there, 'folder:\w{16}' now \(of the names and sizes of its files\)\nSet these"
  with pytest.raises(UserError, match=rf'(?s)^workdir=.*{said}'):
    asked(tmp_path / 'runs', config)
  (tmp_path / 'runs' / held.RECIPE).unlink()
  with pytest.raises(UserError, match=rf'(?s)^none, seed 0 was run in .*{said}'):
    asked(tmp_path / 'runs', config)


def test_images_are_noted_where_an_older_version_began(tmp_path):
  config = small_config(dataset=folder(tmp_path / 'images'))
  comparison, _ = asked(tmp_path / 'runs', config)
  finish(comparison, older=True)
  assert all(asked(tmp_path / 'runs', config)[1].values())
  folder(tmp_path / 'images', larger=True)
  with pytest.raises(UserError, match=r"(?s)^workdir=.*  dataset: 'folder:"):
    asked(tmp_path / 'runs', config)


def test_keys_that_are_newer_than_a_comparison_are_what_was_done_before(tmp_path):
  comparison, _ = asked(tmp_path, small_config())
  finish(comparison, older=True)
  content = json.loads((tmp_path / held.RECIPE).read_text())
  del content['recipe']['train_image_sizes']
  (tmp_path / held.RECIPE).write_text(json.dumps(content))
  assert all(asked(tmp_path, small_config())[1].values())


@pytest.mark.parametrize(
  ('name', 'text', 'said'),
  [
    ('comparison.json', '{"varied"', r'comparison\.json cannot be read \(.*\): remove it: each run is then held'),
    ('comparison.json', '[]', r'comparison\.json cannot be read \(it holds no object\)'),
    ('comparison.json', '{}', r'comparison\.json cannot be read \(it has no recipe\)'),
    ('cells/none/seed0/result.json', '{"vari', r'result\.json cannot be read \(.*\): remove it: the run goes on from'),
    ('cells/none/seed0/result.json', '\0', r'result\.json cannot be read'),
    ('cells/none/seed0/result.json', '{"loss": 1}', r'result\.json cannot be read \(accuracy is no number\)'),
    (
      'cells/none/seed0/result.json',
      json.dumps({'variant': 'none', 'seed': 0, **FIGURES, 'recipe': {'learning_rate': 'fast'}}),
      r'result\.json cannot be read \(its recipe: .*\): move .*seed0 away',
    ),
  ],
)
def test_what_is_damaged_is_named(name, text, said, tmp_path):
  comparison, _ = asked(tmp_path, small_config())
  finish(comparison)
  (tmp_path / name).write_text(text)
  with pytest.raises(UserError, match=said):
    asked(tmp_path, small_config())


def test_a_damaged_line_of_an_older_runs_metrics_is_left_out(tmp_path, capsys):
  comparison, _ = asked(tmp_path, small_config())
  finish(comparison, older=True)
  lines = [json.dumps({'step': step, 'train/loss': 2.0, 'eval/accuracy': 0.25}) for step in (1, 2)]
  (comparison.cells[0].place / 'metrics.jsonl').write_text('\n'.join([lines[0], '{"step', lines[1]]))
  _, found = asked(tmp_path, small_config())
  assert found['none, seed 0']['curves']['train/loss'] == [[1, 2], [2, 2]]
  assert 'metrics.jsonl: 1 of 3 lines cannot be read and are dropped' in capsys.readouterr().err
