"""The cells of a comparison: what is run, in which folder, and what came out. A finished cell is never run again."""

import dataclasses
import json
import pathlib
import re
import zlib
from collections.abc import Sequence
from typing import Any

import ml_collections
from etils import epath

from cmpe_jax.config import check
from cmpe_jax.data import datasets
from cmpe_jax.errors import UserError
from cmpe_jax.models import builder
from cmpe_jax.runtime import files
from cmpe_jax.tools.compare import curves, held
from cmpe_jax.tools.shared import results
from cmpe_jax.tools.shared.origin import origin
from cmpe_jax.tools.shared.results import Content, Result
from cmpe_jax.training import writer
from cmpe_jax.training.console import Console
from cmpe_jax.training.evaluate import evaluate
from cmpe_jax.training.train import train

LOG = 'log.txt'


@dataclasses.dataclass(frozen=True)
class Variant:
  """One of the things compared: its name, and what it changes in the configuration, {'model.gate': 'se'}."""

  name: str
  overrides: dict[str, Any]

  def config(self, base: ml_collections.ConfigDict, seed: int) -> ml_collections.ConfigDict:
    """The configuration of one run. Raises `UserError` for a key or a value that cannot be."""
    config = ml_collections.ConfigDict(base.to_dict())
    try:
      config.update_from_flattened_dict(self.overrides)
    except (KeyError, TypeError, ValueError) as error:
      raise UserError(f'{self.name}: {error} (keys and types are in cmpe_jax/keys.py).') from error
    config.seed = seed
    return config

  def check(self, base: ml_collections.ConfigDict) -> None:
    """Raises `UserError`, naming the variant, for whatever can be judged without compiling."""
    try:
      config = self.config(base, base.seed)
      check(config)
      builder.of_run(datasets.describe(config).resolve(config), 'cpu')
    except UserError as error:
      raise UserError(f'{self.name} cannot be compared: {error}') from error

  @property
  def folder(self) -> str:
    """The name as one of a folder."""
    plain = re.sub(r'[^\w.=,+-]+', '_', self.name)
    return plain if plain == self.name and len(plain) < 80 else f'{plain[:60]}-{zlib.crc32(self.name.encode()):08x}'


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
  """One run of a comparison.

  Attributes:
    variant: its name.
    seed: of initial weights, batches and augmentation.
    config: what is run.
    place: its workdir.
  """

  variant: str
  seed: int
  config: ml_collections.ConfigDict
  place: pathlib.Path

  def __str__(self) -> str:
    return f'{self.variant}, seed {self.seed}'

  def result(self, recipe: Content) -> Result | None:
    """What `run` found, or None: not finished.

    Raises:
      UserError: it was another recipe, or other images; the message lists the keys. The file cannot be read.
    """
    path = self.place / held.RESULT
    if not path.exists():
      return None
    result = held.read_result(path)
    mine = {'variant': self.variant, 'seed': self.seed}
    lines = results.differences({name: result.get(name) for name in mine}, mine)
    if lines := lines + held.run(self.place, result, self.config, recipe):
      raise UserError(f'{self} was run in {self.place} with another recipe:\n' + '\n'.join(lines) + held.BACK)
    result = {name: value for name, value in result.items() if name != 'recipe'}
    if 'curves' not in result and (self.place / writer.FILE).exists():  # of an older version
      result['curves'] = curves.thinned(self.lines(), self.config.ema_decay > 0)
    return result

  def begun(self) -> bool:
    """Whether there is a checkpoint to go on from."""
    checkpoints = self.place / 'checkpoints'
    return checkpoints.exists() and any(path.name.isdigit() for path in checkpoints.iterdir())

  def run(self, console: Console, recipe: Content) -> Result:
    """Trains, from the newest checkpoint if there is one, and evaluates the final weights on the test split.

    Args:
      console: where the lines go.
      recipe: `results.recipe` of the configuration, kept beside the figures.

    Raises:
      UserError: as `train`, with the cell's name.
    """
    try:
      values = train(self.config, str(self.place), console=console)
      if self.config.validation:  # what was printed is of the best weights on the validation part
        values = evaluate(self.config, str(self.place), 'newest', console)
    except UserError as error:
      raise UserError(f'{self} failed: {error} Its log is {self.place / LOG}; finished runs are kept.') from error
    group = 'eval_ema' if self.config.ema_decay else 'eval'
    seconds, images = training_time(self.lines(), self.config.batch_size)
    found = {name: values[f'{group}/{name}'] for name in ('accuracy', 'loss', 'count')}
    result = {'variant': self.variant, 'seed': self.seed, **found, 'seconds': seconds, 'images': images}
    result |= {'origin': origin(), 'curves': curves.thinned(self.lines(), self.config.ema_decay > 0)}
    files.write(self.place / held.RESULT, json.dumps(result | {'recipe': recipe}, indent=2) + '\n', 'workdir')
    return result

  def lines(self) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that can be read."""
    return writer.read(epath.Path(self.place / writer.FILE))


def training_time(lines: Sequence[dict[str, Any]], batch_size: int) -> tuple[float, int]:
  """Seconds that the training steps of a run took, and their images.

  From the speeds in metrics.jsonl: without compilation, evaluations and checkpoints, and the same whether the run was
  interrupted or not.
  """
  seconds, last = 0.0, 0
  for line in lines:
    if 'train/images_per_second' in line:
      seconds += (line['step'] - last) * batch_size / line['train/images_per_second']
      last = line['step']
  return seconds, last * batch_size


def plan(base: ml_collections.ConfigDict, variants: Sequence[Variant], seeds: int, workdir: pathlib.Path) -> list[Cell]:
  """All cells, one seed of every variant after the other, so that an unfinished comparison has whole rounds."""
  return [
    Cell(variant.name, seed, variant.config(base, seed), workdir / held.CELLS / variant.folder / f'seed{seed}')
    for seed in range(base.seed, base.seed + seeds)
    for variant in variants
  ]
