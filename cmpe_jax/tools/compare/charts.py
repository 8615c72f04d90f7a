"""The charts of a comparison, drawn with Matplotlib as SVG that stands inside an HTML page."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cmpe_jax.tools.compare.curves import Curves, Lines
from cmpe_jax.tools.shared.rows import Row

COLORS = ('#0072b2', '#d55e00', '#009e73', '#aa4499', '#7a5c00', '#444444')  # told apart by colour-blind people too
DASHES: tuple[Any, ...] = ('-', (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
WIDTH = 4.2  # inches; narrow, because a phone shows it at about this size
STYLE: Any = {
  'font.size': 9,
  'axes.titlesize': 9,
  'legend.fontsize': 8.5,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.grid': True,
  'grid.alpha': 0.35,
  'svg.fonttype': 'none',
}


def style(number: int) -> dict[str, Any]:
  """Color and dashes of the variant of that number."""
  return {'color': COLORS[number % len(COLORS)], 'linestyle': DASHES[number // len(COLORS) % len(DASHES)]}


def file(draw: Callable[[], Figure], name: str) -> str:
  """An SVG file, the same whenever the same is drawn."""
  with matplotlib.rc_context({**STYLE, 'svg.hashsalt': name}):
    text = io.StringIO()
    draw().savefig(text, format='svg', metadata={'Date': None, 'Creator': None})
  return text.getvalue()


def svg(draw: Callable[[], Figure], name: str, description: str) -> str:
  """An `<svg>` element; its ids begin with `name`, so that several fit into one page."""
  whole = file(draw, name)
  element = whole[whole.index('<svg') :]
  element = re.sub(r'(\bid="|url\(#|href="#)', rf'\g<1>{name}-', element)
  element = re.sub(r' (?:width|height)="[\d.]+pt"', '', element, count=2)
  return element.replace('<svg', f'<svg role="img" aria-label="{description}"', 1)


def differences(rows: Sequence[Row], reference: str) -> Figure:
  """The differences to one variant with their intervals."""
  shown = [(number, row) for number, row in enumerate(rows) if reference in row.differences]
  figure = Figure(figsize=(WIDTH, 1.0 + 0.34 * len(shown)), layout='constrained')
  axes = figure.add_subplot()
  axes.axvline(0, color='#555555', linewidth=1)
  for place, (number, row) in enumerate(shown):
    found, color = row.differences[reference], style(number)['color']
    if np.isfinite(found.low):
      axes.plot([found.low, found.high], [place, place], color=color, linewidth=2, solid_capstyle='butt')
    axes.plot(found.mean, place, 'o', color=color, markersize=6)
  axes.set_yticks(range(len(shown)), [row.name for _, row in shown])
  axes.set(ylim=(len(shown) - 0.4, -0.6), xlabel=f'test accuracy minus that of {reference}, percentage points')
  axes.grid(visible=False, axis='y')
  _at_least(axes.set_xlim, axes.get_xlim(), 0.2)
  return figure


def runs(rows: Sequence[Row]) -> Figure:
  """The test error of every run, and the means."""
  figure = Figure(figsize=(WIDTH, 1.0 + 0.34 * len(rows)), layout='constrained')
  axes = figure.add_subplot()
  for place, row in enumerate(rows):
    errors = [100 * (1 - accuracy) for accuracy in row.accuracies]
    color = style(place)['color']
    axes.plot(errors, _spread(errors, place), 'o', color=color, markersize=5, alpha=0.55, markeredgewidth=0)
    if errors:
      axes.plot([100 - row.mean] * 2, [place - 0.3, place + 0.3], color=color, linewidth=2.5)
  axes.set_yticks(range(len(rows)), [row.name for row in rows])
  axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel='test error of each run and mean, %')
  axes.grid(visible=False, axis='y')
  _at_least(axes.set_xlim, axes.get_xlim(), 0.2)
  return figure


def _spread(values: Sequence[float], place: int) -> list[float]:
  """Heights at which equal values do not cover each other."""
  heights = []
  for i, value in enumerate(values):
    same = [j for j, other in enumerate(values) if abs(other - value) < 1e-9]
    heights.append(place + 0.12 * (same.index(i) - (len(same) - 1) / 2))
  return heights


def _at_least(put: Callable[..., Any], limits: tuple[float, float], width: float) -> None:
  middle, half = sum(limits) / 2, max(limits[1] - limits[0], width) / 2
  put(middle - half, middle + half)


def curves(found: Curves, label: str) -> Figure:
  """A thick line a variant, the mean over its seeds, and a thin one a run; over the epochs, on a logarithmic scale."""
  figure = Figure(figsize=(WIDTH, 3.4), layout='constrained')
  _curves(figure.add_subplot(), found, label)
  _legend(figure, list(found), width=40)
  return figure


def learning(panels: dict[str, Curves]) -> Figure:
  """Such curves side by side, by their label, with one legend."""
  figure = Figure(figsize=(2 * WIDTH, 3.4), layout='constrained')
  for number, (label, found) in enumerate(panels.items(), start=1):
    _curves(figure.add_subplot(1, len(panels), number), found, label)
  _legend(figure, list(next(iter(panels.values()))), width=80)
  return figure


def _curves(axes: Axes, found: Curves, label: str) -> None:
  for number, (name, lines) in enumerate(found.items()):
    if not lines:
      continue
    for epochs, values in lines:
      axes.plot(epochs, values, **style(number), linewidth=0.6, alpha=0.3)
    axes.plot(*_mean(lines), **style(number), linewidth=1.6, label=name)
  _scale(axes, found)
  axes.set(xlabel='epoch', ylabel=label, xlim=(0, None))


def _mean(lines: Lines) -> tuple[np.ndarray, np.ndarray]:
  """Epochs that all runs have come through, as the run with the fewest points has them, and the mean there.

  Runs of one recipe may differ in how often they evaluate: between two points of a run lies a straight line.
  """
  epochs = min((epochs for epochs, _ in lines), key=len)
  first, last = max(epochs[0] for epochs, _ in lines), min(epochs[-1] for epochs, _ in lines)
  epochs = epochs[(first <= epochs) & (epochs <= last)]
  return epochs, np.mean([np.interp(epochs, *line) for line in lines], axis=0)


def _legend(figure: Figure, names: Sequence[str], width: int) -> None:
  """Below, in as many columns as fit into so many letters."""
  columns = max(1, min(width // 13, width // (max(map(len, names)) + 4)))
  lines, labels = figure.axes[0].get_legend_handles_labels()
  figure.legend(lines, labels, loc='outside lower center', ncols=columns, frameon=False, handlelength=2.4)


def _scale(axes: Axes, found: Curves) -> None:
  """Logarithmic, with plain numbers, where it helps; a run without an error goes through the bottom."""
  values = np.concatenate([values for lines in found.values() for _, values in lines])
  values = values[values > 0]
  if len(values) and values.max() / values.min() > 5:
    axes.set_yscale('log', nonpositive='clip')
    axes.set_ylim(values.min() / 1.3, values.max() * 1.3)
    steps = (1, 2, 5) if values.max() / values.min() < 500 else (1,)
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=steps))
    axes.yaxis.set_major_formatter('{x:g}')
    axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
