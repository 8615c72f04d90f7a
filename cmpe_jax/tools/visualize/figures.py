"""The figures of `cmpe_jax.tools.visualize`, drawn with Matplotlib."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

LABELLED = 40  # so many classes at most have their names on an axis


def draw_maps(images: np.ndarray, captions: Sequence[str], views: Sequence[Any], gate: str) -> Figure:
  """A row an image: the image, then map, filtered map and scale of each view.

  Args:
    images: uint8[N, H, W, 3].
    captions: of the images.
    views: `visualize.View`s of the N images.
    gate: the gate's name, for the heading.
  """
  count = len(images)
  figure = Figure(figsize=(2.0 + 3.6 * len(views), 0.9 + 2.1 * count), layout='constrained')
  grid = figure.add_gridspec(2 * count, 1 + 2 * len(views), width_ratios=[1.2, *(1.0, 1.6) * len(views)])
  for row, (pixels, caption) in enumerate(zip(images, captions, strict=True)):
    axes = figure.add_subplot(grid[2 * row : 2 * row + 2, 0])
    axes.imshow(pixels, interpolation='nearest')
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(caption, fontsize=9)
    for column, view in enumerate(views):
      pictures = {'map': view.seen[row]}
      if view.filtered is not None:
        pictures['filtered'] = view.filtered[row]
      cell = grid[2 * row : 2 * row + 2, 1 + 2 * column].subgridspec(len(pictures), 1)
      for place, (name, picture) in enumerate(pictures.items()):
        axes = figure.add_subplot(cell[place])
        _draw_map(axes, picture, name)
        if row == place == 0:
          axes.set_title(view.block, fontsize=10)
      axes = figure.add_subplot(grid[2 * row : 2 * row + 2, 2 + 2 * column])
      _draw_scale(axes, view.scale[row])
      if row == 0:
        axes.set_title('scale', fontsize=10)
      if row == count - 1:
        axes.set_xlabel('channel', fontsize=8)
  figure.suptitle(
    f'gate {gate}; maps: rows alternate residual and identity, channels run along a row; black: least, white: most; '
    'dashed: mean',
    fontsize=10,
  )
  return figure


def _draw_map(axes: Any, picture: np.ndarray, name: str) -> None:
  axes.imshow(picture, cmap='gray', interpolation='nearest', aspect='auto')
  axes.set(xticks=[], yticks=[])
  axes.set_xlabel(f'{picture.min():.2g} to {picture.max():.2g}', fontsize=7, labelpad=2)
  axes.set_ylabel(name, fontsize=8, labelpad=2)


def _draw_scale(axes: Any, scale: np.ndarray) -> None:
  axes.plot(np.arange(len(scale)), scale, color='tab:blue', linewidth=0.9 if len(scale) < 200 else 0.5)
  axes.axhline(scale.mean(), color='tab:orange', linewidth=0.8, linestyle='--')
  axes.set(xlim=(0, len(scale) - 1), ylim=(0, 1), yticks=[0, 0.5, 1])
  axes.tick_params(labelsize=7)
  axes.grid(alpha=0.3)


def draw_scales(histograms: np.ndarray, means: np.ndarray, names: Sequence[str], title: str) -> Figure:
  """A column a stage: above, the distribution of all scales; below, a row a class with its distribution and mean.

  Args:
    histograms: counts [stages, classes, bins] of scales from 0 to 1.
    means: [stages, classes].
    names: of the classes.
    title: the heading.
  """
  stages, classes, bins = histograms.shape
  height = 2.4 + min(6.0, max(2.0, 0.24 * classes))
  figure = Figure(figsize=(1.2 + 3.4 * stages, height), layout='constrained')
  grid = figure.add_gridspec(2, stages, height_ratios=[1.6, height - 2.4])
  edges = np.linspace(0, 1, bins + 1)
  for stage in range(stages):
    total = histograms[stage].sum(0)
    density = total * bins / total.sum()
    above = figure.add_subplot(grid[0, stage])
    above.stairs(density, edges, fill=True, color='tab:blue', alpha=0.7)
    spread = (histograms[stage].sum(0) * (edges[1:] + edges[:-1])).sum() / (2 * total.sum())
    above.axvline(spread, color='tab:orange', linestyle='--', linewidth=1)
    above.set(xlim=(0, 1), yticks=[], xticks=[0, 0.25, 0.5, 0.75, 1])
    above.set_title(f'stage {stage + 1}: mean {spread:.3f}', fontsize=10)
    below = figure.add_subplot(grid[1, stage])
    by_class = histograms[stage] / np.maximum(histograms[stage].sum(1, keepdims=True), 1)
    below.imshow(
      by_class,
      aspect='auto',
      cmap='Greys',
      extent=(0, 1, classes - 0.5, -0.5),
      interpolation='nearest',
      norm=PowerNorm(0.5, vmin=0),
    )
    below.plot(means[stage], np.arange(classes), '|', color='tab:orange', markersize=8, markeredgewidth=1.5)
    below.set(xlabel='scale', xticks=[0, 0.25, 0.5, 0.75, 1], yticks=[])
    if stage == 0:
      if classes <= LABELLED:
        below.set_yticks(range(classes), names, fontsize=8)
      else:
        below.set_ylabel(f'{classes} classes, in the order of their labels')
  figure.suptitle(
    f'{title}: scales of all blocks and channels; orange: means; shade: root of the frequency', fontsize=10
  )
  return figure


def save(figure: Figure, path: pathlib.Path) -> None:
  """Writes a figure in the format of the suffix. Raises `OSError` if it cannot."""
  figure.savefig(path, dpi=130)
