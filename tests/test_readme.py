"""What the pages for people show exists: files, links, modules, keys, make targets, launch commands that parse."""

import ast
import importlib
import importlib.util
import pathlib
import re
import shlex
import subprocess

import pytest
import yaml

from cmpe_jax import config as configuration
from cmpe_jax import names

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / 'docs'
PAGES = sorted([*ROOT.glob('*.md'), *DOCS.rglob('*.md'), ROOT / 'benchmarks' / 'README.md'])
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
ALL = '\n'.join(TEXTS.values())
GATES = ('none', 'se', 'double_fc', 'pair_1x1', 'pair_2x1', 'folded_3x3')  # the paper's


def commands(text):
  """The lines of a page's shell blocks."""
  blocks = re.findall(r'```sh\n(.*?)```', text, re.DOTALL)
  return [line for block in blocks for line in block.replace('\\\n', ' ').splitlines() if line]


LAUNCHES = sorted({line for text in TEXTS.values() for line in commands(text) if line.startswith('launch/')})


def anchors(text):
  """The anchors of a page's headings, as GitHub makes them."""
  prose = re.sub(r'```.*?```', '', text, flags=re.DOTALL)
  titles = re.findall(r'^#+ (.*)$', prose, re.MULTILINE)
  return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


@pytest.mark.parametrize('page', TEXTS)
def test_links_lead_to_files_and_headings(page):
  here = (ROOT / page).parent
  prose = re.sub(r'```.*?```', '', TEXTS[page], flags=re.DOTALL)
  for path, anchor in re.findall(r'\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)', prose):
    target = (here / path).resolve() if path else ROOT / page
    assert target.exists(), path
    assert ROOT in [target, *target.parents]
    if anchor:
      assert anchor in anchors(target.read_text()), f'{path}#{anchor}'


def test_files_exist():
  folders = 'configs|launch|docs|cmpe_jax|tests|notebooks|benchmarks'
  named = set(re.findall(rf'(?<![\w/.:])((?:{folders})/[\w./]*\w\.[a-z]\w*)|\b(requirements[\w-]*\.txt)', ALL))
  named = {first or second for first, second in named} - {'configs/X.py', 'configs/NAME.py', 'configs/mine.py'}
  assert {'requirements-gpu.txt', 'launch/tpu_vm.sh', 'configs/imagenet_cmpe50.py'} <= named
  named = {name for name in named if not re.fullmatch(r'(benchmarks|docs/results)/\w+\.json', name)}  # to be written
  assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_files_of_the_package_by_their_short_names_exist():
  text = TEXTS['docs/architecture.md']
  named = set(re.findall(r'`((?:data|models|training|runtime|tools)/[\w./]*)`', text))
  assert 'training/run.py' in named
  assert [name for name in sorted(named) if not (ROOT / 'cmpe_jax' / name).exists()] == []


def test_modules_and_keys():
  modules = set(re.findall(r'python -m (cmpe_jax[\w.]*\w)', ALL)) - {'cmpe_jax.tools.NAME'}
  assert {'cmpe_jax.main', 'cmpe_jax.data.prepare', 'cmpe_jax.tools.plan'} <= modules
  assert [name for name in sorted(modules) if importlib.util.find_spec(name) is None] == []
  keys = set(re.findall(r'--config\.([\w.]+)', ALL)) - {'KEY'}
  assert keys - {'model.gate'} <= set(configuration.flatten(configuration.base()))


def resolve(name):
  """The object of a dotted name."""
  parts = name.split('.')
  for count in range(len(parts), 0, -1):
    try:
      found = importlib.import_module('.'.join(parts[:count]))
    except ModuleNotFoundError:
      continue
    for part in parts[count:]:
      found = getattr(found, part)
    return found
  raise AttributeError(name)


@pytest.mark.parametrize('page', [page for page, text in TEXTS.items() if '```python' in text])
def test_python_blocks_parse_and_import_what_exists(page):
  for block in re.findall(r'```python\n(.*?)```', TEXTS[page], re.DOTALL):
    for node in ast.walk(ast.parse(block)):
      if isinstance(node, ast.ImportFrom) and node.module.startswith('cmpe_jax'):
        for alias in node.names:
          assert resolve(f'{node.module}.{alias.name}')


def test_pages_of_the_interface_name_what_exists():
  named = re.findall(r'^::: (\S+)$', ALL, re.MULTILINE)
  assert {'cmpe_jax.training.train.train', 'cmpe_jax.models.gates', 'cmpe_jax.training.run'} <= set(named)
  for name in named:
    resolve(name)


def test_the_changelog_says_where_things_went():
  rows = re.findall(r'^\| (.*?) \| (.*?) \|$', TEXTS['CHANGELOG.md'], re.MULTILINE)
  new = [name for _, cell in rows for name in re.findall(r'`(cmpe_jax(?:\.\w+)+)`', cell)]
  assert len(new) > 40
  for name in new:
    resolve(name)


@pytest.mark.parametrize('command', LAUNCHES)
def test_launch_commands_parse(command):
  words = shlex.split(command)
  words.insert(words.index('--') if '--' in words else len(words), '--dry-run')
  done = subprocess.run(['bash', *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
  assert done.returncode == 0, done.stderr
  assert done.stdout


def test_every_script_is_launched_somewhere():
  assert {command.split()[0] for command in LAUNCHES} == {
    f'launch/{name}.sh' for name in ('gke', 'gpu', 'slurm', 'tpu_vm')
  }


def test_make_targets():
  targets = set(re.findall(r'^(\w+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
  assert set(re.findall(r'(?:`|^)make (\w+)', ALL, re.MULTILINE)) <= targets
  assert {'train', 'test', 'lint', 'docs'} <= targets


def test_the_readme_is_short_and_has_the_gates_of_the_paper():
  readme = TEXTS['README.md']
  assert len(readme.split()) <= 1500
  section = readme.split('\n## Gates\n')[1].split('\n## ')[0]
  rows = re.findall(r'^\| `(\w+)`(?: \(default\))? \|', section, re.MULTILINE)
  assert rows == list(names.GATES)
  assert rows[: len(GATES)] == list(GATES)


def test_the_example_of_a_gate_is_the_gate():
  text = TEXTS['CONTRIBUTING.md']
  assert (ROOT / 'cmpe_jax' / 'models' / 'gates' / 'gather_excite.py').read_text() in text
  assert "+  'ge': '" + names.GATES['ge'] + "',\n" in text


def test_every_page_can_be_reached_from_the_readme():
  reached, todo = set(), ['README.md']
  while todo:
    page = todo.pop()
    reached.add(page)
    for path in re.findall(r'\]\((?!https?:)([^)#\s]+\.md)', TEXTS[page]):
      found = str(((ROOT / page).parent / path).resolve().relative_to(ROOT))
      todo += [found] if found not in reached else []
  apart = {page for page in TEXTS if page.startswith(('docs/api/', '.github/'))} | {'benchmarks/README.md'}
  assert set(TEXTS) - apart - reached == set()


def nav_pages(node):
  """The pages of a part of the site's navigation."""
  if isinstance(node, str):
    return [node]
  return [page for child in (node.values() if isinstance(node, dict) else node) for page in nav_pages(child)]


def test_every_page_is_in_the_site():
  site = yaml.safe_load((ROOT / 'mkdocs.yml').read_text())
  pages = {page.removeprefix('docs/') for page in TEXTS if page != 'benchmarks/README.md'}
  assert set(nav_pages(site['nav'])) == pages - {'README.md'} | {'index.md'}


@pytest.mark.parametrize(
  'path',
  [
    *sorted((ROOT / '.github').rglob('*.yml')),
    *(ROOT / name for name in ('mkdocs.yml', '.pre-commit-config.yaml', 'CITATION.cff')),
  ],
  ids=lambda path: str(path.relative_to(ROOT)),
)
def test_yaml_parses(path):
  assert yaml.safe_load(path.read_text())


def test_hooks_are_the_commands_of_make_lint():
  hooks = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())['repos'][0]['hooks']
  recipe = (ROOT / 'Makefile').read_text().split('\nlint:')[1].split('\n\n')[0]
  for hook in hooks:
    command = re.sub(r"^bash -c '(.*)'$", r'\1', hook['entry'])
    assert f'@{command}' in recipe
  assert len(hooks) == recipe.count('\t@')


@pytest.mark.parametrize('name', ['architecture', 'gates', 'results'])
def test_a_picture_is_what_its_script_draws(name, monkeypatch):
  monkeypatch.syspath_prepend(DOCS)
  script = importlib.import_module(name)
  assert script.__file__ == str(DOCS / f'{name}.py')
  assert script.picture() == (DOCS / f'{name}.svg').read_text(), f'run: python docs/{name}.py'


def test_the_picture_of_the_gates_has_those_of_the_paper():
  for gate in GATES:
    assert f'>{gate}</text>' in (DOCS / 'gates.svg').read_text()


def test_the_picture_of_the_house_names_files_that_exist(monkeypatch):
  monkeypatch.syspath_prepend(DOCS)
  script = importlib.import_module('architecture')
  for place, file, _ in (*script.CONFIG, *script.BATCH, *script.STATE):
    if file != 'configs/NAME.py':
      found = list((ROOT / 'cmpe_jax' / place).glob(file)) or list((ROOT / 'cmpe_jax' / place).rglob(file))
      assert found, f'{place}/{file}'


def test_the_table_of_keys_is_that_of_the_code():
  script = importlib.import_module('docs.configuration')
  assert script.page() == (DOCS / 'configuration.md').read_text(), 'run: python -m docs.configuration'
