"""What a comparison compares: gates, or what a configuration lists."""

import pytest

from cmpe_jax import config as configuration
from cmpe_jax.errors import UserError
from cmpe_jax.tools.compare import cells
from cmpe_jax.tools.compare import command as compare


def small_config(**values):
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8})
  config.update({'epochs': 4.0} | values)
  return config


def test_sweeps(tmp_path):
  file = tmp_path / 'swept.py'
  file.write_text("def get_sweep():\n  return [{'learning_rate': 0.1}, {'learning_rate': 0.2, 'model.gate': 'se'}]\n")
  first, second = compare.sweep_variants(str(file))
  assert (first.name, second.name) == ('learning_rate=0.1', 'learning_rate=0.2, model.gate=se')
  config = second.config(small_config(), 3)
  assert (config.learning_rate, config.model.gate, config.seed, config.momentum) == (0.2, 'se', 3, 0.9)
  for text, said in (
    ('', r'has no get_sweep\(\)'),
    ('None', r'does not give a list \(TypeError'),
    ('[1 / 0]', r'does not give a list \(ZeroDivisionError: division by zero'),
    ("[{'learning_rat': 1}]", "lists {'learning_rat': 1}: give dicts of keys"),
    ("[{'seed': 1}, {'seed': 2}]", r'not seed'),
    ("[{'learning_rate': 1.0}]", 'a comparison needs two'),
    ("[{'learning_rate': 1.0}] * 2", 'names learning_rate=1.0 twice'),
  ):
    file.write_text(f'def get_sweep():\n  return {text}\n' if text else '')
    with pytest.raises(UserError, match=said):
      compare.sweep_variants(str(file))
  with pytest.raises(UserError, match='momentum=high'):
    cells.Variant('momentum=high', {'momentum': 'high'}).check(small_config())


def test_gates_that_cannot_be_compared():
  with pytest.raises(UserError, match='a comparison needs two'):
    compare.gate_variants(['se'])
  with pytest.raises(UserError, match='names se twice'):
    compare.gate_variants(['se', 'none', 'se'])
  with pytest.raises(
    UserError, match='folded_3x3 cannot be compared: .* set columns, model.fold_columns in a configuration'
  ):
    compare.gate_variants(['se', 'folded_3x3'])[1].check(small_config())
  with pytest.raises(UserError, match="se cannot be compared: .*'/nowhere'"):
    compare.gate_variants(['se', 'none'])[0].check(small_config(dataset='folder:/nowhere'))
