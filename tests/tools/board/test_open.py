"""What is open: commands that can be given, and the hours that they take at least."""

import json
import pathlib
import re

import pytest

from cmpe_jax import config as configuration
from cmpe_jax import names
from cmpe_jax.errors import UserError
from cmpe_jax.tools.board import command, page
from cmpe_jax.tools.shared import paper

ROOT = pathlib.Path(__file__).parents[3]


def test_commands_of_open_cells_can_be_given():
  commands = re.findall(r'`(python -m cmpe_jax.tools.compare --config=.*?)`', page.page([], {}))
  assert len(commands) == 20
  for each in commands:
    given = dict(word.split('=', 1) for word in each.split()[3:])
    configuration.find(given['--config'])
    gates = given['--gates'].split(',')
    assert len(gates) > 1
    assert set(gates) <= set(names.GATES)


def test_hours_are_those_of_the_bytes_that_a_gpu_reads(tmp_path):
  """200 epochs and as many evaluations in batches of 128, at 3.35 TB/s."""
  hours = command.hours(ROOT / 'docs' / 'results')
  assert hours.keys() == paper.ERRORS.keys()
  text = page.page([], hours)
  for net, found in hours.items():
    plan = json.loads((ROOT / 'docs' / 'results' / 'plans' / f'{net}.json').read_text())
    read = 78_125 * plan['train']['accessed'] + 200 * 79 * plan['eval']['accessed']
    assert found == pytest.approx(read / 3.35e12 / 3600, rel=1e-6)
    assert f' | {found:.2g} |\n' in text
  (tmp_path / 'plans').mkdir()
  (tmp_path / 'plans' / 'net.json').write_text('{"run": {}}')
  with pytest.raises(UserError, match=r'net\.json is not what the plan writes'):
    command.hours(tmp_path)
