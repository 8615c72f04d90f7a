"""The cells of a comparison: their folders, their recipe, their time."""

import json
import re

import pytest

from cmpe_jax import config as configuration
from cmpe_jax.errors import UserError
from cmpe_jax.tools.compare import cells, held
from cmpe_jax.tools.compare import command as compare


def small_config(**values):
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8})
  config.update({'epochs': 4.0} | values)
  return config


def test_training_time_leaves_out_what_is_not_training():
  lines = [
    {'step': 10, 'train/images_per_second': 100.0},
    {'step': 15, 'eval/accuracy': 0.5},
    {'step': 30, 'train/images_per_second': 50.0},
  ]
  assert cells.training_time(lines, 5) == (10 * 5 / 100 + 20 * 5 / 50, 150)


def claim(workdir, config, variants):
  """As the command does."""
  varied = sorted({key for variant in variants for key in variant.overrides})
  (workdir / held.RECIPE).write_text(json.dumps(held.comparison(workdir, config, varied, config.dataset)))


def test_a_workdir_holds_one_recipe_but_takes_more_seeds_and_gates(tmp_path):
  config, two = small_config(), compare.gate_variants(['none', 'se'])
  claim(tmp_path, config, two)
  planned = cells.plan(config, two, 2, tmp_path)
  assert [str(cell) for cell in planned] == ['none, seed 0', 'se, seed 0', 'none, seed 1', 'se, seed 1']
  assert [cell.config.model.gate for cell in planned] == ['none', 'se'] * 2
  changed = small_config(learning_rate=0.2)
  claim(tmp_path, changed, two)  # nothing is computed yet
  claim(tmp_path, config, two)
  (planned[0].place / 'checkpoints' / '12').mkdir(parents=True)
  claim(tmp_path, small_config(seed=1, data_dir='/elsewhere'), compare.gate_variants(['se', 'pair_1x1']))
  with pytest.raises(UserError, match=r'(?s)another recipe:\n  learning_rate: 0.1 there, 0.2 now\nSet these back'):
    claim(tmp_path, changed, two)
  with pytest.raises(UserError, match='epochs: 4.0 there, 5.0 now'):
    claim(tmp_path, small_config(epochs=5.0), two)
  with pytest.raises(UserError, match=r"compared: \['model.gate'\] there, \['momentum'\] now"):
    claim(tmp_path, config, [cells.Variant('a', {'momentum': 0.5}), cells.Variant('b', {'momentum': 0.9})])


def test_names_become_folders_that_differ():
  names = ['se', 'a b', 'a_b', 'folder:/x/y', 'x' * 200, 'x' * 199, 'learning_rate=0.05, momentum=0.9']
  folders = [cells.Variant(name, {}).folder for name in names]
  assert len(set(folders)) == len(names)
  assert folders[0] == 'se'
  assert all(re.fullmatch(r'[\w.=,+-]{1,90}', folder) for folder in folders)
