"""Every network compiles for a GPU and a TPU, by their compilers, on this CPU: full widths and images, few blocks."""

import functools
import importlib.util
import itertools

import jax
import pytest

from cmpe_jax import config as configuration
from cmpe_jax.models import builder
from cmpe_jax.names import BLOCKS, GATE_FORMS, GATES
from cmpe_jax.tools.benchmark import programs
from cmpe_jax.tools.shared import chips, hlo

PACKAGE = {'h100': ('jax_plugins', 'requirements-plan-gpu.txt'), 'v5e': ('libtpu', 'requirements-plan.txt')}
TOPOLOGY = {'h100': 'h100:1', 'v5e': 'v5e:2x2'}
BATCH = {'h100': 256, 'v5e': 64}  # whether a GPU's product finds tiles depends on the size


@functools.cache
def device(chip):
  package, file = PACKAGE[chip]
  if importlib.util.find_spec(package) is None:
    pytest.skip(f'the compiler for {chip} is not installed ({file})')
  return chips.devices(TOPOLOGY[chip])[0][0]


def settings():
  """Every gate in every form, order and mode; without a gate there is one form."""
  return programs.settings(programs.ORDERS, list(GATES), list(GATE_FORMS), programs.MODES)


@pytest.mark.slow
@pytest.mark.parametrize('chip', list(PACKAGE))
@pytest.mark.parametrize(
  ('block', 'setting'),
  [pytest.param(*one, id=f'{one[0]}-{one[1].name.replace(" ", "-")}') for one in itertools.product(BLOCKS, settings())],
)
def test_every_network_compiles(chip, block, setting, monkeypatch):
  """An identity in the first stage, a projection in every stage, strided from the second one on."""
  target = device(chip)
  monkeypatch.setattr(builder, 'IMAGENET_STAGES', {block: {1: (2, 1, 1, 1)}})
  config = configuration.base()
  config.model.update({'backbone': 'imagenet_resnet', 'block': block, 'depth': 1})
  config.update({'dataset': 'imagenet2012', 'dtype': 'bfloat16', 'batch_size': BATCH[chip]})
  compiled = programs.program(config, setting, target).lower(chips.platform(target)).compile()
  stem = jax.ShapeDtypeStruct((BATCH[chip], 112, 112, 64), 'bfloat16')
  assert hlo.moved(compiled.as_text()) > stem.size * stem.dtype.itemsize
