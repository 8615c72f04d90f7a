"""What README.md and CONTRIBUTING.md show exists: files, modules, keys, and launch commands that parse."""

import importlib.util
import pathlib
import re
import shlex
import subprocess

import pytest

from cmpe_jax import config as configuration
from cmpe_jax import names

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()
BOTH = README + (ROOT / 'CONTRIBUTING.md').read_text()
COMMANDS = [
  line
  for block in re.findall(r'```sh\n(.*?)```', README, re.DOTALL)
  for line in block.replace('\\\n', ' ').splitlines()
]


def test_files_and_links():
  links = set(re.findall(r'\]\((?!https?:)([^)#]+)\)', BOTH))
  named = set(re.findall(r'\b((?:configs|launch|docs|cmpe_jax|tests)/[\w./]*\w\.\w+|requirements[\w-]*\.txt)', BOTH))
  assert {'docs/gates.svg', 'CONTRIBUTING.md', 'LICENSE'} <= links
  assert {'requirements-gpu.txt', 'launch/tpu_vm.sh', 'configs/imagenet_cmpe50.py'} <= named
  assert [name for name in sorted(links | named) if not (ROOT / name).exists() and name != 'configs/X.py'] == []


def test_modules_and_keys():
  modules = set(re.findall(r'python -m (cmpe_jax[\w.]*)', BOTH))
  assert {'cmpe_jax.main', 'cmpe_jax.data.prepare', 'cmpe_jax.tools.plan'} <= modules
  assert [name for name in sorted(modules) if importlib.util.find_spec(name) is None] == []
  keys = set(re.findall(r'--config\.([\w.]+)', BOTH))
  assert keys <= set(configuration.flatten(configuration.base()))


@pytest.mark.parametrize('command', [line for line in COMMANDS if line.startswith('launch/')])
def test_launch_commands_parse(command):
  words = shlex.split(command)
  words.insert(words.index('--') if '--' in words else len(words), '--dry-run')
  done = subprocess.run(['bash', *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
  assert done.returncode == 0, done.stderr
  assert done.stdout


def test_make_targets():
  targets = set(re.findall(r'^(\w+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
  assert set(re.findall(r'(?:`|^)make (\w+)', BOTH, re.MULTILINE)) <= targets
  assert {'train', 'test', 'lint'} <= targets


def test_the_picture_is_what_its_script_draws():
  spec = importlib.util.spec_from_file_location('gates', ROOT / 'docs' / 'gates.py')
  gates = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(gates)
  assert gates.picture() == (ROOT / 'docs' / 'gates.svg').read_text()
  for gate in names.GATES:
    assert f'>{gate}</text>' in gates.picture()
