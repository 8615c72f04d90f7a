"""The authors' parameter files: read, refused with a reason, and used by evaluation like any checkpoint."""

import pathlib
import struct
import subprocess
import sys

import chex
import jax
import numpy as np
import pytest
import safetensors.numpy

import cmpe_jax
from cmpe_jax import config as configuration
from cmpe_jax import models
from cmpe_jax.errors import UserError
from cmpe_jax.tools.convert import command as convert
from cmpe_jax.tools.convert import gluon, timm

ROOT = pathlib.Path(__file__).parents[3]
NETS = ROOT / 'tests' / 'golden' / 'nets'
FILE = NETS / 'resnet20_1x1.params'


def model_config(**values):
  config = configuration.model()
  config.update({'depth': 20, 'gate': 'pair_1x1', **values})
  return config


def cifar_config():
  config = configuration.base()
  config.dataset = 'cifar10'
  config.model.update(model_config())
  return config


def test_conversion_writes_a_checkpoint_that_gives_the_authors_logits(tmp_path):
  convert.main('gluon', str(FILE), cifar_config(), str(tmp_path / 'run'))
  model, variables, config = cmpe_jax.load_model(str(tmp_path / 'run'))
  golden = np.load(FILE.with_suffix('.npz'))
  logits = model.apply(variables, golden['x'].transpose(0, 2, 3, 1), train=False)
  expected = golden['logits_infer']
  np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())
  assert config.model.num_classes == 10
  with pytest.raises(UserError, match='has checkpoints already'):
    convert.main('gluon', str(FILE), cifar_config(), str(tmp_path / 'run'))


def test_names_that_do_not_match_are_listed_on_both_sides():
  with pytest.raises(UserError) as error:
    gluon.from_gluon(str(FILE), model_config(gate='se'))
  assert '- features.2.0.net_se_conv.1.weight (missing in the file)' in str(error.value)
  assert '+ features.4.1.Multi_Map.1.gamma (unmatched)' in str(error.value)
  with pytest.raises(UserError, match=r'- features\.2\.2\.bn1\.gamma'):
    gluon.from_gluon(str(FILE), model_config(depth=29))


def test_another_number_of_classes_is_a_shape_error():
  with pytest.raises(UserError, match=r'output\.(weight|bias) has shape \(10'):
    gluon.from_gluon(str(FILE), model_config(num_classes=100))


def test_a_state_dict_of_timm_becomes_a_checkpoint(tmp_path):
  config = configuration.base()
  config.update({'dataset': 'imagenet2012', 'image_size': 64})
  config.model.update(
    {
      'backbone': 'imagenet_resnet',
      'block': 'basic',
      'depth': 18,
      'preact': False,
      'gate': 'none',
      'num_classes': 1000,
    }
  )
  ours = models.init(models.build(config.model), jax.random.key(3), 64)
  theirs = {}
  for place, leaf in jax.tree_util.tree_leaves_with_path(ours):
    layout = {4: (3, 2, 0, 1), 2: (1, 0)}.get(leaf.ndim, (0,))
    theirs[timm.timm_name([part.key for part in place][1:])] = np.ascontiguousarray(leaf.transpose(layout))
  safetensors.numpy.save_file(theirs, tmp_path / 'net.safetensors')
  convert.main('timm', str(tmp_path / 'net.safetensors'), config, str(tmp_path / 'run'))
  chex.assert_trees_all_equal(cmpe_jax.load_model(str(tmp_path / 'run'))[1], ours)


@pytest.mark.parametrize('size', [0, 20, 30, 500, 100_000, -1])
def test_a_truncated_file_is_named(tmp_path, size):
  path = tmp_path / 'cut.params'
  path.write_bytes(FILE.read_bytes()[:size])
  with pytest.raises(UserError, match=r'cut\.params ends at byte'):
    gluon.read(str(path))


def test_other_files_are_not_read_as_parameters(tmp_path):
  other = tmp_path / 'other.params'
  other.write_bytes(struct.pack('<QQQ', 0x113, 0, 1))
  with pytest.raises(UserError, match=r'not a Gluon parameter file: it starts with 0x113'):
    gluon.read(str(other))
  with pytest.raises(UserError, match='cannot read'):
    gluon.read(str(tmp_path / 'absent.params'))


def test_a_shifted_input_normalization_is_refused(tmp_path):
  data = bytearray(FILE.read_bytes())
  beta = gluon.read(str(FILE))['features.0.beta']
  assert not beta.any()  # the second array: 24 bytes of header, 12 + 8 + 12 before each array's 12 bytes
  start = 24 + (12 + 8 + 12 + 12) + (12 + 8 + 12)
  data[start : start + 4] = struct.pack('<f', 1.0)
  path = tmp_path / 'shifted.params'
  path.write_bytes(data)
  with pytest.raises(UserError, match=r'features\.0\.beta is not zero'):
    gluon.from_gluon(str(path), model_config())


def test_the_command(tmp_path):
  command = [sys.executable, '-m', 'cmpe_jax.tools.convert', 'gluon']
  given = [
    str(FILE),
    '--config=configs/cifar10_resnet164.py',
    '--config.model.depth=20',
    f'--workdir={tmp_path / "run"}',
  ]
  done = subprocess.run([*command, *given], capture_output=True, text=True, cwd=ROOT, timeout=120)
  assert done.returncode == 0, done.stderr
  assert '251,780 parameters' in done.stdout  # of ResNet-20 with the 1x1 pair view, from its layer sizes
  done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
  assert done.returncode == 2
  assert 'Usage' in done.stderr
