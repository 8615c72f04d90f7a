"""TensorBoard's HParams page of a comparison: `tensorboard --logdir WORKDIR/hparams`."""

import pathlib

from cmpe_jax import keys
from cmpe_jax.config import flatten
from cmpe_jax.tools.compare.cells import Cell
from cmpe_jax.tools.compare.comparison import Comparison
from cmpe_jax.tools.compare.held import CELLS
from cmpe_jax.training import curves

FOLDER = 'hparams'


def write(comparison: Comparison, cell: Cell, workdir: pathlib.Path) -> None:
  """The finished run of a cell: its seed, what the comparison varies, and all keys that have not their defaults."""
  result = comparison.runs[cell.variant][cell.seed]
  shown = {'seed', *(key for variant in comparison.variants for key in variant.overrides)}
  flat = flatten(cell.config)
  values = {name: value for name, value in flat.items() if name in shown or value != keys.ALL[name].default}
  metrics = {'test/accuracy': result['accuracy'], 'test/loss': result['loss'], 'train/seconds': result['seconds']}
  place = workdir / FOLDER / cell.place.relative_to(workdir / CELLS)
  curves.write_hyperparameters(place, values, metrics, result['images'] // cell.config.batch_size)
