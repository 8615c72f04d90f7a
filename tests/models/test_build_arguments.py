"""What `build` refuses besides values of keys: other keys, types, platforms and numbers."""

import jax
import jax.numpy as jnp
import pytest

from cmpe_jax import config as configuration
from cmpe_jax import models
from cmpe_jax.errors import UserError
from cmpe_jax.models import forms


def keys_of(**values):
  config = configuration.model()
  with config.unlocked():
    config.update({'depth': 11, 'num_classes': 10, **values})
  return config


def without(*names):
  config = keys_of(gat='se')
  with config.unlocked():
    for name in names:
      del config[name]
  return config


@pytest.mark.parametrize(
  ('config', 'words'),
  [
    (keys_of(gat='se'), ['+ model.gat (unknown)']),
    (without('gate', 'depth'), ['+ model.gat (unknown)', '- model.depth (missing)', '- model.gate (missing)']),
    (configuration.base(), ['a whole configuration', 'config.model']),
    ({'depth': 11}, ['is a dict', 'cmpe_jax.config.model()']),
  ],
)
def test_other_keys_than_those_of_a_network_are_listed(config, words):
  with pytest.raises(UserError) as error:
    models.build(config)
  for word in words:
    assert word in str(error.value)


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ({'dtype': 'int32'}, ["dtype='int32'", "'bfloat16'"]),
    ({'dtype': 'float8'}, ["dtype='float8'", "'bfloat16'"]),
    ({'dtype': 'float16'}, ["dtype='float16'", "'bfloat16'"]),
    ({'bn_group_size': -1}, ['bn_group_size=-1', 'at least 0']),
    ({'frozen_stages': 4}, ['freeze=4', 'from 0 to 3']),
    ({'platform': 'gpuu'}, ["platform='gpuu'", "'cpu', 'gpu', 'tpu', 'cuda', 'rocm'"]),
  ],
)
def test_wrong_arguments_are_named_with_the_allowed_ones(arguments, words):
  with pytest.raises(UserError) as error:
    models.build(keys_of(), **arguments)
  for word in words:
    assert word in str(error.value)


def test_types_and_platforms_have_several_names():
  assert models.build(keys_of(), jnp.bfloat16).dtype == models.build(keys_of(), 'bfloat16').dtype == jnp.bfloat16
  gpu = forms.choose('fused', 'gpu', gated=True, preact=True)
  assert [models.build(keys_of(), platform=name).forms for name in ('gpu', 'cuda', 'rocm')] == [gpu] * 3
  assert models.build(keys_of()).forms == models.build(keys_of(), platform='cpu').forms != gpu


def test_a_plug_in_of_another_platform_has_the_plain_form(monkeypatch):
  devices = jax.devices
  monkeypatch.setattr(jax, 'devices', lambda name=None: devices() if name == 'METAL' else devices(name))
  plain = models.build(keys_of(), platform='METAL').forms
  assert plain.train == plain.infer == forms.FUSED
