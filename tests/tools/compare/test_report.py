"""The report of a comparison: what it says, and how a browser shows it on a phone and on a desk."""

import importlib.util
import json
import pathlib
import re

import numpy as np
import pytest

from cmpe_jax import config as configuration
from cmpe_jax import names
from cmpe_jax.tools.compare import cells, output
from cmpe_jax.tools.compare import command as compare
from cmpe_jax.tools.compare import comparison as results

ROOT = pathlib.Path(__file__).parents[3]
spec = importlib.util.spec_from_file_location('browser', ROOT / 'docs' / 'browser.py')
browser = importlib.util.module_from_spec(spec)
spec.loader.exec_module(browser)


def write_cells(planned):
  """Results and curves as if the cells had run."""
  generator = np.random.default_rng(0)
  for number, cell in enumerate(planned):
    cell.place.mkdir(parents=True)
    lines = []
    for step in range(10, 401, 10):
      lines.append({'step': step, 'train/loss': 2.3 * np.exp(-step / 80), 'train/images_per_second': 700.0})
      if step % 20 == 0:
        accuracy = 1 - 0.9 * np.exp(-step / 70) - generator.uniform(0, 0.004)
        lines.append({'step': step, 'eval/accuracy': accuracy})
    (cell.place / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    accuracy = lines[-1]['eval/accuracy'] + (0.02 if cell.variant == 'pair_1x1' else 0)
    values = {'accuracy': accuracy, 'loss': 0.03, 'count': 364, 'seconds': 60.0 + number, 'images': 12800}
    (cell.place / 'result.json').write_text(json.dumps({'variant': cell.variant, 'seed': cell.seed, **values}))


@pytest.fixture(scope='module')
def report(tmp_path_factory):
  """The report of all gates and three of five seeds."""
  workdir = tmp_path_factory.mktemp('report')
  config, variants = configuration.base(), compare.gate_variants(names.GATES)
  config.model.depth, config.epochs = 11, 4.0
  planned = cells.plan(config, variants, 5, workdir)
  done = planned[: 3 * len(variants)]
  write_cells(done)
  comparison = results.Comparison('digits', config, variants, planned)
  comparison.add([cell.result(comparison.recipes[cell.variant]) for cell in done])
  output.write(comparison, workdir)
  return workdir / 'report.html'


def test_the_report_says_what_is_and_what_is_not_shown(report):
  text = report.read_text()
  assert 'Not finished: 16 of 40 runs are missing' in text
  assert re.search(
    r'Compared with <b>se</b>: test accuracy is higher with <b>pair_1x1</b>; no difference is shown for <b>none', text
  )
  assert text.count('<svg') == 5
  for label in ('test error, %', 'training loss', 'epoch', 'test accuracy minus that of se, percentage points'):
    assert f'>{label}</text>' in text
  ids = re.findall(r'\bid="([^"]+)"', text)
  assert len(ids) == len(set(ids))
  assert set(re.findall(r'(?:url\(|href=")#([^")]+)', text)) <= set(ids)


@pytest.mark.skipif(browser.PROGRAM is None, reason='no Chromium on this machine')
@pytest.mark.parametrize(('width', 'mobile'), [(390, True), (1280, False)])
def test_the_report_in_a_browser(report, width, mobile):
  with browser.Browser(width, mobile=mobile) as page:
    page.open(report)
    assert page.requested == [report.as_uri()]  # it needs nothing else
    assert page.evaluate('document.documentElement.scrollWidth') == width  # the page does not move sideways
    inner, outer = page.evaluate('(b => [b.scrollWidth, b.clientWidth])(document.querySelector(".box"))')
    assert (inner > outer) == mobile  # but the table in its box does, where it must
    page.evaluate('document.querySelector(".box").scrollLeft = 200')
    assert page.evaluate('document.querySelector("tbody th").getBoundingClientRect().left') < 40  # names stay
    sizes = page.evaluate(
      '[...document.querySelectorAll("svg text")].map(t => t.getBoundingClientRect().height).filter(h => h > 0)'
    )
    assert len(sizes) > 60
    assert min(sizes) > 9  # pixels: labels can be read
    boxes = page.evaluate(
      '[...document.querySelectorAll("svg")].map(s => { const r = s.getBoundingClientRect(); '
      'return [...s.querySelectorAll("text")].every(t => { const q = t.getBoundingClientRect(); '
      'return q.left >= r.left - 1 && q.right <= r.right + 1 && q.top >= r.top - 1 && q.bottom <= r.bottom + 1; }); })'
    )
    assert boxes == [True] * 5  # nothing is cut off
    picture = page.screenshot()
    assert picture.width == width
    assert picture.height > 1500
    colors = {color for _, color in picture.getcolors(1 << 24)}
    assert {(0, 114, 178), (213, 94, 0)} <= colors  # the lines of the first two gates are drawn
