"""The report of a comparison: one HTML file that needs nothing else, for a phone as for a desk."""

import functools
import html
from collections.abc import Callable

from matplotlib.figure import Figure

from cmpe_jax.config import flatten
from cmpe_jax.tools.compare import charts, curves
from cmpe_jax.tools.compare.comparison import Comparison
from cmpe_jax.tools.shared import paired

CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 80rem; padding: 1rem; background: #fff; color: #1a1a1a;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.warning { background: #fff3cd; border-left: .3rem solid #8a6100; padding: .5rem .75rem; }
.box { overflow-x: auto; border: 1px solid #c4c4c4; border-radius: .4rem; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #dedede; }
tr:last-child > * { border-bottom: 0; }
thead th { background: #f2f2f2; vertical-align: bottom; }
th:first-child { position: sticky; left: 0; background: #f2f2f2; text-align: left; border-right: 1px solid #dedede; }
td small { display: block; color: #555; }
td small.shown { color: #1a1a1a; font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1.5rem;
  margin-bottom: 1.5rem; }
.charts.wide { grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); }
figure { margin: 0; }
figure svg { display: block; width: 100%; max-width: 34rem; height: auto; }
figcaption { font-size: .9rem; color: #444; max-width: 34rem; margin-top: .4rem; }
.hint { display: none; font-size: .9rem; color: #444; margin: .4rem 0; }
@media (max-width: 48rem) { .hint { display: block; } }
.notes { padding-left: 1.2rem; color: #333; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }
summary { cursor: pointer; }
"""


def page(comparison: Comparison) -> str:
  """The whole file."""
  title = html.escape(comparison.title())
  parts = [f'<h1>{title}</h1>']
  if comparison.missing:
    planned = len(comparison.cells)
    parts.append(f'<p class="warning">Not finished: {comparison.missing} of {planned} runs are missing.</p>')
  parts.append(_answer(comparison))
  parts.append(f'<h2>Table</h2>\n{_table(comparison)}\n<p class="hint">The table moves sideways.</p>')
  parts.append(f'<h2>Charts</h2>\n<div class="charts">\n{_results(comparison)}\n</div>')
  parts.append(f'<div class="charts wide">\n{_curves(comparison)}\n</div>')
  notes = '\n'.join(f'<li>{html.escape(note)}</li>' for note in comparison.notes())
  parts.append(f'<h2>How to read this</h2>\n<ul class="notes">\n{notes}\n</ul>')
  parts.append(_recipe(comparison))
  body = '\n'.join(parts)
  return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{CSS}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


SAID = {
  paired.HIGHER: 'test accuracy is higher with',
  paired.LOWER: 'test accuracy is lower with',
  paired.NONE: 'no difference is shown for',
  paired.EQUAL: 'it differs by the same number in every run for',
}


def _answer(comparison: Comparison) -> str:
  """The verdicts in words, a line a reference."""
  lines = []
  for reference in comparison.references:
    rows = [row for row in comparison.rows if reference in row.differences]
    said = [] if rows else ['two runs of the same seeds are needed']
    for verdict, words in SAID.items():
      names = [_name(row.name) for row in rows if row.differences[reference].verdict == verdict]
      said += [f'{words} {", ".join(names)}'] if names else []
    lines.append(f'<li>Compared with {_name(reference)}: {"; ".join(said)}.</li>')
  return '<ul>\n' + '\n'.join(lines) + '\n</ul>'


def _name(text: str) -> str:
  return f'<b>{html.escape(text)}</b>'


def _table(comparison: Comparison) -> str:
  heading, *rows = comparison.table()
  head = ''.join(f'<th scope="col">{html.escape(cell)}</th>' for cell in heading)
  lines = []
  for row in rows:
    cells = ''.join(f'<td>{_cell(cell)}</td>' for cell in row[1:])
    lines.append(f'<tr><th scope="row">{html.escape(row[0])}</th>{cells}</tr>')
  body = '\n'.join(lines)
  return (
    '<div class="box" role="region" aria-label="Table of results" tabindex="0">\n'
    f'<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>'
  )


def _cell(text: str) -> str:
  """The verdict on a line of its own."""
  for verdict in (paired.NONE, paired.HIGHER, paired.LOWER, paired.EQUAL):
    if text.endswith(verdict):
      kind = ' class="shown"' if verdict in (paired.HIGHER, paired.LOWER) else ''
      return f'{html.escape(text.removesuffix(verdict).strip()).replace("-", "−")}<small{kind}>{verdict}</small>'
  return html.escape(text)


def _results(comparison: Comparison) -> str:
  """The differences to each reference, and all runs."""
  rows, found = comparison.rows, []
  for number, reference in enumerate(comparison.references):
    if not any(reference in row.differences for row in rows):
      continue
    caption = f'Accuracy minus that of {reference}: mean and {paired.CONFIDENCE:.0%} interval.'
    found.append(_figure(f'd{number}', functools.partial(charts.differences, rows, reference), caption))
  found.append(_figure('runs', functools.partial(charts.runs, rows), 'Each run (dots) and the means (bars).'))
  return '\n'.join(found)


def _curves(comparison: Comparison) -> str:
  """Error and training loss over the epochs."""
  found, panels = [], curves.panels(comparison.runs, comparison.values)
  for name, (label, lines) in zip(('error', 'loss'), panels.items(), strict=True):
    if lines:
      what = label.split(',')[0].capitalize()
      caption = f'{what} over the epochs: thin lines are runs, thick ones their means.'
      found.append(_figure(name, functools.partial(charts.curves, lines, label), caption))
  return '\n'.join(found)


def _figure(name: str, draw: Callable[[], Figure], caption: str) -> str:
  text = html.escape(caption)
  return f'<figure>\n{charts.svg(draw, name, text)}\n<figcaption>{text}</figcaption>\n</figure>'


def _recipe(comparison: Comparison) -> str:
  """Every key of the configuration, as an override would give it; those that are compared are left out."""
  varied = {key for variant in comparison.variants for key in variant.overrides} | {'seed'}
  flat = flatten(comparison.config)
  lines = '\n'.join(f'{key} = {value!r}' for key, value in sorted(flat.items()) if key not in varied)
  summary = '<summary>The recipe: every key of the configuration</summary>'
  return f'<details>\n{summary}\n<pre>{html.escape(lines)}</pre>\n</details>'
