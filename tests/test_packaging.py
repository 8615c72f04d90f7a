"""What is installed: extras as the requirements files have them, every package, a wheel that works elsewhere."""

import os
import pathlib
import subprocess
import sys
import tomllib

import oldest
import pytest

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())


def required(name):
  """The lines of a requirements file without comments; other files that it names, apart."""
  lines = [line.partition('  #')[0].strip() for line in (ROOT / name).read_text().splitlines()]
  lines = [line for line in lines if line and not line.startswith('#')]
  return {line for line in lines if not line.startswith('-r ')}, {line[3:] for line in lines if line.startswith('-r ')}


def test_extras_are_the_requirements_files():
  extras = PROJECT['project']['optional-dependencies']
  files = {path.name[len('requirements-') : -len('.txt')] for path in ROOT.glob('requirements-*.txt')}
  assert extras.keys() == files
  for name, listed in extras.items():
    own, others = required(f'requirements-{name}.txt')
    more = {f'cmpe_jax[{other[len("requirements-") : -len(".txt")]}]' for other in others - {'requirements.txt'}}
    assert set(listed) == own | more, name


def test_the_oldest_versions_are_the_lower_bounds():
  assert (ROOT / 'tests' / 'oldest.txt').read_text() == oldest.page(), 'run: python tests/oldest.py'


def test_a_lower_bound_leaves_out_what_a_constraint_cannot_have():
  lines = ('etils[epath]>=1.15.0', 'opencv>=5.0,<6; platform_system == "Linux"', 'array_record>=0.8.6,<0.9')
  assert [oldest.lower_bound(line) for line in lines] == ['etils==1.15.0', 'opencv==5.0', 'array_record==0.8.6']


def test_every_package_is_listed():
  folders = {path.parent.relative_to(ROOT) for path in (ROOT / 'cmpe_jax').rglob('*.py')}
  assert set(PROJECT['tool']['setuptools']['packages']) == {'.'.join(path.parts) for path in folders} | {
    'cmpe_jax.configs'
  }


@pytest.mark.slow
def test_a_wheel_works_from_another_folder(tmp_path):
  pip = [sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check']
  subprocess.run([*pip, 'wheel', '--no-deps', '--wheel-dir', tmp_path / 'wheels', ROOT], check=True, timeout=300)
  (wheel,) = (tmp_path / 'wheels').glob('*.whl')
  subprocess.run([*pip, 'install', '--no-deps', '--target', tmp_path / 'site', wheel], check=True, timeout=300)
  code = (
    'import cmpe_jax, pathlib; from cmpe_jax import config; '
    'assert pathlib.Path(cmpe_jax.__file__).is_relative_to(pathlib.Path("site").resolve()); '
    'digits = config.load("digits"); digits.model.depth = 11; digits.epochs = 1.0; digits.warmup_epochs = 0.0; '
    'print(cmpe_jax.train(digits, "run")["eval/count"]); '
    'print(cmpe_jax.load_model("run")[0].num_classes, cmpe_jax.from_pretrained("digits").names[3])'
  )
  environment = os.environ | {'PYTHONPATH': str(tmp_path / 'site'), 'XLA_FLAGS': ''}
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
  )
  assert done.stdout.split()[-3:] == ['364', '10', '3'], done.stderr
  command = [sys.executable, '-m', 'cmpe_jax.tools.summary', '--config=digits']
  done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
  assert 'pair_1x1 *' in done.stdout, done.stderr
