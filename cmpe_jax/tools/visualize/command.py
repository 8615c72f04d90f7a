"""Shows what the gates see and do: `python -m cmpe_jax.tools.visualize --workdir=runs/digits [IMAGE...]`.

Draws two figures. maps: a row an image; the image, then for a block of each stage and the last block the inner-imaged
map, below it the same map after the gate's filter, beside them the scale of each channel (the appendix figure of arXiv
1807.08920). scales: how the scales of each stage are distributed over a split, by class.
"""

import argparse
import contextlib
import csv
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cmpe_jax import names
from cmpe_jax.data import splits
from cmpe_jax.data.source import Source
from cmpe_jax.errors import UserError, check_choice
from cmpe_jax.models import gates, inner_imaging, paths
from cmpe_jax.runtime import files, places, printing, start
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.tools.shared import arguments
from cmpe_jax.tools.visualize import figures
from cmpe_jax.training import trained

BINS = 50  # of a histogram of scales, from 0 to 1


@dataclasses.dataclass(frozen=True)
class View:
  """What one block's gate sees and does for each of N images.

  Attributes:
    block: its name.
    seen: [N, rows, columns], even rows the residual's descriptors, odd rows the identity's.
    filtered: the same after the gate's filter, or None: the gate has none.
    scale: s [N, C].
  """

  block: str
  seen: np.ndarray
  filtered: np.ndarray | None
  scale: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scales:
  """How the scales of each stage are distributed.

  Attributes:
    histograms: int64[stages, classes, BINS], over the images of the class, the blocks of the stage and its channels.
    sums: float64[stages, classes, 2], of the scales and of their squares.
  """

  histograms: np.ndarray
  sums: np.ndarray

  def moments(self) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation, each [stages, classes]; nan where a class has no image."""
    with np.errstate(invalid='ignore', divide='ignore'):
      mean, square = np.moveaxis(self.sums / self.histograms.sum(-1)[..., None], -1, 0)
    return mean, np.sqrt(np.maximum(square - mean**2, 0))


def block_names(run: trained.Trained) -> list[str]:
  """All blocks in order. Raises `UserError` if they have no gates."""
  if run.config.model.gate == 'none':
    raise UserError("these weights have model.gate='none': there are no scales to show. Give those of a gated network.")
  return [spec['name'] for spec in run.model.block_specs(0)]


def chosen_blocks(run: trained.Trained) -> list[str]:
  """The middle block of each stage and the last block."""
  sizes = run.model.stage_sizes
  middle = [paths.block_name(stage, count // 2) for stage, count in enumerate(sizes, 1)]
  return list(dict.fromkeys([*middle, block_names(run)[-1]]))


def look(run: trained.Trained, images: np.ndarray, blocks: Sequence[str]) -> tuple[list[View], np.ndarray]:
  """What the gates of `blocks` see in uint8[N, H, W, 3], and the classes' probabilities [N, classes].

  Raises:
    UserError: a block that the network does not have.
  """
  for block in blocks:
    check_choice('--blocks', block, tuple(block_names(run)))

  def call(variables: Any, images: jax.Array) -> Any:
    logits, sown = _apply(run, variables, images)
    return jax.nn.softmax(logits), {block: sown[block] for block in blocks}

  probabilities, sown = jax.device_get(jax.jit(call)(run.variables, images))
  return [_view(run, block, sown[block]) for block in blocks], probabilities


def _apply(run: trained.Trained, variables: dict[str, Any], images: jax.Array) -> tuple[jax.Array, Any]:
  logits, updated = run.model.apply(variables, run.normalize(images), train=False, mutable=['intermediates'])
  return logits, updated['intermediates']


def _view(run: trained.Trained, block: str, sown: dict[str, Any]) -> View:
  u, v, scale = (np.asarray(sown[name][0]) for name in ('u', 'v', 'scale'))
  columns = run.model.columns[_stage(block)]
  columns = columns if u.shape[1] % columns == 0 else u.shape[1]
  filtered, gate = sown.get('gate', {}).get('filtered_map'), gates.find(run.config.model.gate)
  if filtered is not None and gate is not None:
    filtered = gate.picture(np.asarray(filtered[0]), columns)
  return View(block, _fold(u, v, columns), filtered, scale)


def _stage(block: str) -> int:
  """The number of a block's stage, from 0."""
  place = paths.block_of(block)
  assert place
  return place[0] - 1


def _fold(u: np.ndarray, v: np.ndarray, columns: int) -> np.ndarray:
  return np.asarray(inner_imaging.fold(jnp.asarray(u), jnp.asarray(v), columns))


def measure(run: trained.Trained, split: str, batch_size: int = 128) -> Scales:
  """The scales of every block for every image of a split. Raises `UserError` if the data are missing."""
  blocks, classes = block_names(run), run.dataset.num_classes
  histograms = np.zeros((len(run.model.stage_sizes), classes, BINS), np.int64)
  sums = np.zeros((*histograms.shape[:2], 2))

  with _opened(run, split) as source:

    @jax.jit
    def call(variables: Any, resident: Any, drawn: Any) -> Any:
      batch = source.materialize(resident, drawn)
      _, sown = _apply(run, variables, batch['image'])
      return [sown[name]['scale'][0] for name in blocks], batch['label'], batch['mask']

    for drawn in source.evaluate(min(batch_size, source.num_examples)):
      scales, labels, mask = jax.device_get(call(run.variables, source.resident, drawn))
      for name, scale in zip(blocks, scales, strict=True):
        stage, scale, label = _stage(name), scale[mask], labels[mask]
        bins = np.minimum((scale * BINS).astype(np.int64), BINS - 1) + label[:, None] * BINS
        histograms[stage] += np.bincount(bins.ravel(), minlength=classes * BINS).reshape(classes, BINS)
        np.add.at(sums[stage], label, np.stack([scale.sum(1), np.square(scale).sum(1)], 1))
  return Scales(histograms, sums)


def _opened(run: trained.Trained, split: str) -> contextlib.AbstractContextManager[Source]:
  """A split on this process's first device."""
  mesh = meshes.make(jax.local_devices()[:1])
  return contextlib.closing(splits.open_split(run.config, run.dataset, split, mesh))


def first_of_split(run: trained.Trained, split: str, count: int) -> tuple[np.ndarray, list[str]]:
  """The first images of a split that are of different classes, uint8[n, H, W, 3], and their classes' names."""
  found: dict[int, np.ndarray] = {}
  with _opened(run, split) as source, contextlib.closing(source.evaluate(min(64, source.num_examples))) as batches:
    for drawn in batches:
      batch = jax.device_get(source.materialize(source.resident, drawn))
      for pixels, label, is_real in zip(batch['image'], batch['label'].tolist(), batch['mask'], strict=True):
        if is_real and label not in found and len(found) < count:
          found[label] = pixels
      if len(found) == min(count, run.dataset.num_classes):
        break
  return np.stack(list(found.values())), [run.names[label] for label in found]


def write_numbers(path: pathlib.Path, scales: Scales, names: Sequence[str]) -> None:
  """The means and standard deviations as CSV: stage, class, mean, deviation."""
  with path.open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['stage', 'class', 'mean', 'standard_deviation'])
    for stage, rows in enumerate(zip(*scales.moments(), strict=True), 1):
      for name, mean, deviation in zip(names, *rows, strict=True):
        writer.writerow([stage, name, f'{mean:.6f}', f'{deviation:.6f}'])


def main(argv: Sequence[str]) -> None:
  """The command; `argv` without the program's name.

  Raises:
    UserError: unreadable images, missing data, no gates, or an output that cannot be written.
  """
  options = _parser().parse_args(argv)
  if not options.output and places.is_bucket(options.workdir):
    raise UserError(f'--workdir={options.workdir} is a bucket: say by --output where on this machine the figures go.')
  output = files.local(options.output or str(pathlib.Path(options.workdir or '') / 'figures'), 'output')
  start.jax()
  run = arguments.network(options, options.data_dir)
  blocks = options.blocks.split(',') if options.blocks else chosen_blocks(run)
  if options.images:
    captions = [path.name for path in options.images]
    images = np.stack([run.square(arguments.read(path), str(path)) for path in options.images])
  else:
    images, captions = first_of_split(run, options.split, options.count)
  with files.chosen(output, 'output'):  # before anything is computed
    output.mkdir(parents=True, exist_ok=True)
  views, probabilities = look(run, images, blocks)
  best = probabilities.argmax(1)
  captions = [
    f'{caption}\nread as {run.names[label]} ({row[label]:.0%})'
    for caption, label, row in zip(captions, best, probabilities, strict=True)
  ]
  scales = measure(run, options.split) if options.scales else None
  with files.chosen(output, 'output'):
    written = [output / f'maps.{options.format}']
    figures.save(figures.draw_maps(images, captions, views, run.config.model.gate), written[0])
    if scales:
      written += [output / f'scales.{options.format}', output / 'scales.csv']
      title = f'{pathlib.Path(run.dataset.name).name}, {options.split} split, gate {run.config.model.gate}'
      figures.save(figures.draw_scales(scales.histograms, scales.moments()[0], run.names, title), written[1])
      write_numbers(written[2], scales, run.names)
  printing.line('\n'.join(map(str, written)))


def _parser() -> argparse.ArgumentParser:
  parser = arguments.parser('visualize', __doc__)
  parser.add_argument('images', nargs='*', type=pathlib.Path, metavar='IMAGE', help='default: some of the split')
  parser.add_argument('--split', choices=names.SPLITS, default='test', help='default: test')
  parser.add_argument('--count', type=arguments.positive, default=4, help='images of the split (default: 4)')
  parser.add_argument('--blocks', help='such as stage1_block0,stage3_block1 (default: middle ones and the last)')
  parser.add_argument('--no-scales', dest='scales', action='store_false', help='leave out the pass over the split')
  parser.add_argument('--output', help='folder of the figures (default: WORKDIR/figures; without a workdir figures)')
  parser.add_argument('--format', choices=('png', 'pdf'), default='png', help='of the figures (default: png)')
  parser.add_argument('--data_dir', help='where prepared datasets lie, if not where the run found them')
  return parser
