"""Weights from a hub: taken whole, kept, and refused with a sentence; against a service on this machine."""

import os
import pathlib
import subprocess
import sys

import pytest
from harness import ROOT
from model_hub.server import Hub

from cmpe_jax.training import hub as hubs
from cmpe_jax.training import pretrained

FILES = {path.name: path.read_bytes() for path in (pretrained.SHIPPED / 'digits').iterdir()}
ASK = """
import sys
from cmpe_jax.runtime import command
from cmpe_jax.training import hub
files = ('config.json', 'model.safetensors', 'README.md')
sys.exit(command.run(lambda: print(hub.download(sys.argv[1], files)), sys.argv[:1]))
"""


@pytest.fixture
def hub():
  with Hub() as service:
    service.push('us/digits', FILES | {'model.stablehlo': b'not wanted'})
    service.push('us/gated', FILES, is_gated=True)
    yield service


@pytest.fixture
def call(hub, tmp_path):
  """call(arguments...) -> the end of a process that knows no other hub and keeps what it gets in `tmp_path`."""

  def begin(*arguments, **more):
    environment = {'HF_ENDPOINT': hub.url, 'HF_HOME': str(tmp_path), 'HF_HUB_DISABLE_XET': '1', 'XLA_FLAGS': ''} | more
    return subprocess.run(
      [sys.executable, *arguments],
      cwd=ROOT,
      env={name: value for name, value in os.environ.items() if name != 'HF_TOKEN'} | environment,
      capture_output=True,
      text=True,
      timeout=200,
    )

  return begin


def kept(tmp_path, name='model.safetensors'):
  """The files of this name, and what would become one."""
  return [*tmp_path.rglob(name), *tmp_path.rglob('*.incomplete')]


def test_a_model_is_taken_whole_and_kept(hub, call, tmp_path):
  done = call('-c', ASK, 'us/digits')
  assert done.returncode == 0, done.stderr
  folder = pathlib.Path(done.stdout.strip())
  assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
  assert not [path for path in hub.asked if 'stablehlo' in path]
  commit = folder.name
  hub.push('us/digits', FILES | {'README.md': b'newer'})
  assert (pathlib.Path(call('-c', ASK, 'us/digits').stdout.strip()) / 'README.md').read_bytes() == b'newer'
  assert call('-c', ASK, f'us/digits@{commit}').stdout == done.stdout
  hub.broken = {'status': 503}
  done = call('-c', ASK, 'us/digits')
  assert (done.returncode, pathlib.Path(done.stdout.strip()).name != commit) == (0, True)


def test_predict_names_an_image_by_a_model_of_the_hub(hub, call, tmp_path):
  from PIL import Image
  from sklearn.datasets import load_digits

  digits = load_digits()
  Image.fromarray((digits.images[1234] * 15.9).astype('uint8')).save(tmp_path / 'digit.png')
  arguments = ('-m', 'cmpe_jax.tools.predict', '--format=csv', '--top=1', str(tmp_path / 'digit.png'))
  done = call(*arguments, '--pretrained=us/digits')
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[1].split(',')[3] == str(digits.target[1234])
  hub.broken = {'status': 503}
  done = call(*arguments, '--pretrained=us/other')
  assert done.returncode == 75
  assert 'Traceback' not in done.stderr


@pytest.mark.parametrize(
  ('name', 'broken', 'token', 'code', 'said'),
  [
    ('us/none', {}, '', 2, "'us/none' is neither a folder here nor a model on the Hugging Face Hub"),
    ('us/none', {}, 'hf_x', 2, "'us/none' is neither a folder here nor a model on the Hugging Face Hub"),
    ('us/gated', {}, '', 2, "'us/gated' is gated: accept its terms"),
    ('us/digits@old', {}, '', 2, "'us/digits' has no revision 'old'"),
    ('us/digits', {'status': 403}, '', 2, "refuses 'us/digits' (403)"),
    ('us/digits', {'status': 503}, '', 75, "'us/digits' is no folder here, and the Hugging Face Hub answered with 503"),
    ('us/digits', {'status': 429}, '', 75, 'answered with 429: try again'),
    ('us/digits', {'status': 200}, '', 2, 'is not the Hugging Face Hub'),
  ],
)
def test_what_is_refused(hub, call, tmp_path, name, broken, token, code, said):
  hub.broken = broken
  done = call('-c', ASK, name, **({'HF_TOKEN': token} if token else {}))
  assert done.returncode == code, done.stderr
  assert said in done.stderr
  assert 'Traceback' not in done.stderr
  assert kept(tmp_path) == []


def test_a_connection_that_breaks_leaves_nothing_and_one_that_comes_back_is_used(hub, call, tmp_path):
  hub.broken = {'breaks': 1000, 'after': 100_000}
  done = call('-c', ASK, 'us/digits')
  assert done.returncode == 75
  assert 'the Hugging Face Hub was not reached' in done.stderr
  assert kept(tmp_path) == []
  hub.broken = {'breaks': 1, 'after': 100_000}
  done = call('-c', ASK, 'us/digits')
  assert done.returncode == 0, done.stderr
  assert (pathlib.Path(done.stdout.strip()) / 'model.safetensors').read_bytes() == FILES['model.safetensors']


def test_a_hub_that_is_not_there(hub, call, tmp_path):
  done = call('-c', ASK, 'us/digits', HF_ENDPOINT='http://127.0.0.1:9')
  assert done.returncode == 75
  assert 'the Hugging Face Hub was not reached' in done.stderr
  done = call('-c', ASK, 'us/digits', HF_HUB_OFFLINE='1')
  assert done.returncode == 2
  assert 'HF_HUB_OFFLINE is set' in done.stderr


def test_without_huggingface_hub(monkeypatch):
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  with pytest.raises(hubs.UserError, match='pip install huggingface_hub'):
    pretrained.find('us/digits')


@pytest.mark.parametrize('text', ['digits', '/us/digits', 'a/b/c', '../digits', 'gs://us/digits', 'us/', '~/digits'])
def test_what_is_no_name_on_the_hub(text):
  assert not hubs.is_name(text)
  assert hubs.is_name('us/digits-2.0@main')
