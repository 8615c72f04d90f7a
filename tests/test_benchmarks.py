"""The tables of docs/speed.md: those that the raw numbers in benchmarks/ give."""

import importlib.util
import json
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location('tables', ROOT / 'benchmarks' / 'tables.py')
tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tables)
PAGES = [ROOT / 'docs' / 'speed.md']


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_are_those_of_the_numbers(page):
  text = page.read_text()
  assert tables.filled(text) == text
  names = re.findall(r'<!-- (\w+) -->', text)
  assert names == re.findall(r'<!-- /(\w+) -->', text)
  assert set(names) <= set(tables.TABLES)


def test_every_table_has_its_place_and_its_command():
  assert re.findall(r'<!-- (\w+) -->', PAGES[0].read_text()) == list(tables.TABLES)
  done = subprocess.run(['bash', ROOT / 'benchmarks' / 'run.sh', 'nothing'], capture_output=True, text=True)
  assert done.returncode == 2
  assert done.stderr.split('is none of: ')[1].split() == [*tables.TABLES, 'plans']


def cost(accessed, temporary=1e9, multiplications=1e9, kernels=10, **more):
  values = {'accessed': accessed, 'temporary': temporary, 'peak': 2 * temporary, 'multiplications': multiplications}
  return values | {'kernels': kernels} | more


def test_ratios_of_costs_in_the_order_of_the_gates_also_of_one_without_a_name():
  cells = {
    'pre none - infer': cost(4e9),
    'pre new fused infer': cost(2e9),
    'pre folded_3x3 fused infer': cost(3e9),
    'pre se fused infer': cost(4.1e9),
    'pre se reference infer': cost(5e9),
    'post none - train': cost(8e9),
    'post se reference train': cost(9e9),
    'post none - infer': cost(8e9),
  }
  assert tables.costs({'cells': cells}).splitlines()[:7] == [
    '| gate | form | infer, pre | infer, post | train, post |',
    '|---|---|---|---|---|',
    '| `none` |  | 4.00 GB | 8.00 GB | 8.00 GB |',
    '| `se` | reference | 1.250 | - | 1.125 |',
    '| `se` | fused | 1.025 | - | - |',
    '| `folded_3x3` | fused | 0.750 | - | - |',
    '| `new` | fused | 0.500 | - | - |',
  ]


def test_costs_before_and_after_are_relative_to_the_network_without_a_gate_before():
  before = {'post none - train': cost(8e9), 'post se fused train': cost(9e9)}
  largest = [['bf16[2,3]', 12, 4], ['f32[2]', 8, 1], ['f32[1]', 4, 1]]
  after = {
    'post none - train': cost(6e9, temporary=4e9),
    'post se fused train': cost(9e9, temporary=5e9, multiplications=1.05e9, kernels=1234, largest=largest),
    'post none - infer': cost(2e9),
    'post se fused infer': cost(3e9),
    'post eca fused train': cost(4e9),
    'post eca fused infer': cost(4e9),
  }
  lines = tables.costs({'cells': after, 'before': {'cells': before}}).splitlines()
  assert lines[2:5] == [
    '| `none` |  | 8.00 GB → 6.00 GB |',
    '| `se` | fused | 1.125 |',
    '| `eca` | fused | 0.500 |',
  ]
  assert '| train, post | `se` | 5.00 GB | 1.250 | 10.00 GB | 1.050 | 1,234 | 4 x bf16[2,3], 1 x f32[2] |' in lines
  assert '| infer, post | `none` | 1.00 GB | 1.000 | 2.00 GB | 1.000 | 10 |  |' in lines


def test_ratios_to_the_faster_of_theirs_and_of_the_rounds():
  def way(train, infer):
    return {'train': {'rounds': train}, 'infer': {'rounds': infer}}

  ways = {'timm, eager': way([4.0, 2.0, 4.0], [1.0, 1.0, 1.0]), 'timm, other': way([5.0, 5.0, 5.0], [0.5, 0.5, 0.5])}
  found = {'about': {'batch_size': 8}, 'ways': ways | {'se': way([2.0, 4.0, 8.0], [0.25, 0.5, 1.0])}}
  assert tables.peer(found).splitlines()[-1] == '| ours, `se` | 2.00 | 0.50 (0.50-2.00) | 16.00 | 1.00 (0.50-2.00) |'


def test_a_table_replaces_the_old_one(tmp_path, monkeypatch):
  monkeypatch.setattr(tables, 'HERE', tmp_path)
  monkeypatch.setattr(tables, 'BEFORE', tmp_path / 'before')
  source = {way: {'images_per_cpu_second': rates} for way, rates in (('ours', [300, 200]), ('tf.data', [200, 200]))}
  about = {'processor': '2 cores of X', 'date': '2026-11-24', 'versions': {'jax': '1', 'jaxlib': '1'}}
  (tmp_path / 'input.json').write_text(json.dumps({'about': about, 'sources': {'originals': source}}))
  text = tables.filled('before\n<!-- input -->\nold\n<!-- /input -->\n<!-- peer -->\nkept\n<!-- /peer -->\n')
  assert text.startswith('before\n<!-- input -->\n')
  assert '| originals | 250 | 200 | 1.25 (1.00-1.50) |\n\n2 cores of X, jax 1; 2026-11-24.\n<!-- /input -->' in text
  assert text.endswith('<!-- peer -->\nkept\n<!-- /peer -->\n')
  assert 'old' not in text
  assert tables.filled(text) == text
