"""Every network compiles for a GPU and a TPU, by their compilers, on this CPU: full widths and images, few blocks."""

import importlib.util
import itertools
import pathlib
import subprocess

import pytest
from harness import begin

from cmpe_jax.names import BLOCKS, GATE_FORMS, GATES
from cmpe_jax.tools.benchmark import programs

PACKAGE = {'h100': ('jax_plugins', 'requirements-plan-gpu.txt'), 'v5e': ('libtpu', 'requirements-plan.txt')}
# By a TPU's compiler; the first had no end after 43 minutes with 17 GB, the others were not waited for.
ENDLESS = [f'{blocks} folded_3x3 reference train' for blocks in ('bottleneck pre', 'basic pre', 'basic post')]


def settings():
  """Every gate in every form, order and mode; without a gate there is one form."""
  return programs.settings(programs.ORDERS, list(GATES), list(GATE_FORMS), programs.MODES)


@pytest.mark.slow
@pytest.mark.parametrize('chip', list(PACKAGE))
@pytest.mark.parametrize(
  ('block', 'setting'),
  [pytest.param(*one, id=f'{one[0]}-{one[1].name.replace(" ", "-")}') for one in itertools.product(BLOCKS, settings())],
)
def test_every_network_compiles(chip, block, setting):
  package, file = PACKAGE[chip]
  if importlib.util.find_spec(package) is None:
    pytest.skip(f'the compiler for {chip} is not installed ({file})')
  if chip == 'v5e' and f'{block} {setting.name}' in ENDLESS:
    pytest.skip('compiles for too long (docs/speed.md)')
  program = pathlib.Path(__file__).with_name('compiling.py')
  compiling = begin([str(program), chip, block, *setting.name.split()], stderr=subprocess.PIPE, PYTHONPATH='.')
  out, err = compiling.communicate()
  assert compiling.returncode == 0, err
  assert float(out) > 1
