import jax
import numpy as np
import pytest
from harness import resolved

from cmpe_jax import config as configuration
from cmpe_jax import models
from cmpe_jax.data import datasets
from cmpe_jax.training import initial, trained


def run_config(**model):
  """The smallest network on digits, by gate."""
  config = configuration.base()
  config.model.update({'block': 'basic', 'depth': 8, 'gate': 'pair_1x1'} | model)
  return config


def random_variables(config, seed=0):
  """Variables as after training: no scale is 1, no mean is 0."""
  variables = models.init(models.build(config.model), jax.random.key(seed), config.image_size)
  generator = np.random.default_rng(seed)

  def value(path, leaf):
    name = path[-1].key
    if name in ('scale', 'var'):
      return generator.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
    return generator.normal(0, 0.2, leaf.shape).astype(np.float32) if name in ('bias', 'mean') else leaf

  return jax.tree_util.tree_map_with_path(value, variables)


@pytest.fixture(scope='session')
def make_run(tmp_path_factory):
  """make_run(gate=..., ...) -> the workdir of a run on digits whose weights are random."""

  def make(data_dir=None, **model):
    workdir = tmp_path_factory.mktemp('run')
    config = run_config(**model)
    config.data_dir = str(data_dir or tmp_path_factory.getbasetemp() / 'data')
    config = resolved(config)
    initial.write(str(workdir), config, random_variables(config))
    return workdir

  return make


@pytest.fixture(scope='session')
def workdir(make_run):
  return make_run()


@pytest.fixture(scope='session')
def random_run(tmp_path_factory):
  """random_run(gate=..., ...) -> a network with random weights as if it were trained on digits."""

  def make(**model):
    config = run_config(**model)
    config.data_dir = str(tmp_path_factory.getbasetemp() / 'data')
    config = resolved(config)
    info = datasets.describe(config)
    variables = random_variables(config)
    return trained.Trained(models.build(config.model), variables, config, info, info.class_names)

  return make
