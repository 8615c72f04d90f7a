"""The rules of the house, held against its files: floors, circles, sizes, rooms, and how commands begin."""

import ast
import importlib.util
import pathlib
import subprocess
import sys

import pytest

import cmpe_jax

PACKAGE = pathlib.Path(cmpe_jax.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob('*.py'))
# From the ground up: a file imports from its own floor and from those below.
FLOORS = (
  ('errors', 'names'),
  ('keys',),
  ('config', 'recipes'),
  ('runtime',),
  ('models', 'data'),
  ('training',),
  ('tools',),
  ('main',),
)
FLOOR = {name: level for level, group in enumerate(FLOORS) for name in group}


def module_of(path):
  return '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')


MODULES = {module_of(path): path for path in FILES}


def imports_of(path):
  """The modules of this package that a file imports, at any place in it."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('cmpe_jax'):
      for alias in node.names:
        inner = f'{node.module}.{alias.name}'
        yield inner if inner in MODULES else node.module
    elif isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names if alias.name in MODULES)


IMPORTS = {name: set(imports_of(path)) - {name} for name, path in MODULES.items()}


def floor(module):
  return FLOOR[module.split('.')[1]] if '.' in module else None


def test_imports_go_down():
  up = [
    (name, other)
    for name, others in IMPORTS.items()
    for other in others
    if None not in (floor(name), floor(other)) and floor(name) < floor(other)
  ]
  assert up == []
  assert len(MODULES) > 90


def test_no_imports_run_in_a_circle():
  state, circles = {}, []

  def visit(module, path):
    state[module] = 'open'
    for other in sorted(IMPORTS[module]):
      if state.get(other) == 'open':
        circles.append([*path[path.index(other) :], other] if other in path else [module, other])
      elif other not in state:
        visit(other, [*path, other])
    state[module] = 'done'

  for module in sorted(IMPORTS):
    if module not in state:
      visit(module, [module])
  assert circles == []


@pytest.mark.parametrize(
  'path',
  sorted(path for top in ('cmpe_jax', 'configs', 'tests', 'docs', 'benchmarks') for path in (ROOT / top).rglob('*.py')),
  ids=lambda path: str(path.relative_to(ROOT)),
)
def test_files_and_functions_are_small(path):
  text = path.read_text()
  assert text.count('\n') <= 250
  assert 'fmt: ' + 'skip' not in text
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.FunctionDef):
      assert node.end_lineno - node.lineno < 60, node.name


def test_tests_mirror_the_package():
  """Each folder of tests below a floor is a folder of the package."""
  floors = ('runtime', 'models', 'data', 'training', 'tools')
  found = {path.parent.relative_to(ROOT / 'tests') for path in (ROOT / 'tests').rglob('test_*.py')}
  rooms = {path for path in found if path.parts and path.parts[0] in floors}
  assert {path.parts[0] for path in rooms} == set(floors)
  assert [str(path) for path in sorted(rooms) if not (PACKAGE / path).is_dir()] == []


ROOMS = sorted(path.parent.name for path in (PACKAGE / 'tools').glob('*/__main__.py'))
COMMANDS = ['main', 'data.prepare', *(f'tools.{name}' for name in ROOMS)]


@pytest.mark.parametrize('name', COMMANDS)
def test_commands_begin_before_numpy_and_jax(name):
  """Memory is kept at the one start of all commands, when neither library has made a thread."""
  code = (
    'import runpy, sys\n'
    'from cmpe_jax.runtime import memory\n'
    'memory.keep = lambda: print("early" if sys.modules.keys().isdisjoint(("numpy", "jax")) else "late")\n'
    f'sys.argv = ["x", "--wrong=1"]\nrunpy.run_module("cmpe_jax.{name}", run_name="__main__", alter_sys=True)\n'
  )
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=100)
  assert done.stdout.split()[:1] == ['early'], done.stderr
  assert done.returncode == 2, done.stderr


def test_every_command_of_the_tools_is_there():
  wanted = {'summary', 'plan', 'benchmark', 'compare', 'predict', 'visualize', 'export', 'convert', 'check', 'board'}
  assert wanted <= {name.removeprefix('tools.') for name in COMMANDS}
  for name in COMMANDS:
    assert importlib.util.find_spec(f'cmpe_jax.{name}')


def test_importing_the_package_loads_nothing_heavy():
  code = 'import sys, cmpe_jax; assert sys.modules.keys().isdisjoint(("numpy", "jax")); print(cmpe_jax.__version__)'
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=100)
  assert done.stdout.strip() == cmpe_jax.__version__, done.stderr
