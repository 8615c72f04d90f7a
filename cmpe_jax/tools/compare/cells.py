"""The cells of a comparison: what is run, in which folder, and what came out. A finished cell is never run again."""

import dataclasses
import json
import pathlib
import re
import zlib
from collections.abc import Sequence
from typing import Any

import ml_collections

from cmpe_jax import keys, names
from cmpe_jax.config import check, flatten
from cmpe_jax.data import datasets
from cmpe_jax.errors import UserError
from cmpe_jax.models import builder
from cmpe_jax.runtime import files
from cmpe_jax.tools.compare import curves
from cmpe_jax.tools.shared.origin import origin
from cmpe_jax.tools.shared.results import MACHINES_OWN, Result
from cmpe_jax.training.console import Console
from cmpe_jax.training.evaluate import evaluate
from cmpe_jax.training.train import train
from cmpe_jax.training.writer import FILE

RESULT, LOG, RECIPE, CELLS = 'result.json', 'log.txt', 'comparison.json', 'cells'


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

  def result(self) -> Result | None:
    """What `run` found, or None: not finished."""
    path = self.place / RESULT
    if not path.exists():
      return None
    result = json.loads(path.read_text())
    if 'curves' not in result and (self.place / FILE).exists():  # of an older version
      result['curves'] = curves.thinned(self.lines(), self.config.ema_decay > 0)
    return result

  def begun(self) -> bool:
    """Whether there is a checkpoint to go on from."""
    checkpoints = self.place / 'checkpoints'
    return checkpoints.exists() and any(path.name.isdigit() for path in checkpoints.iterdir())

  def run(self, console: Console) -> Result:
    """Trains, from the newest checkpoint if there is one, and evaluates the final weights on the test split.

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
    files.write(self.place / RESULT, json.dumps(result, indent=2) + '\n', 'workdir')
    return result

  def lines(self) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (self.place / FILE).read_text().splitlines()]


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
    Cell(variant.name, seed, variant.config(base, seed), workdir / CELLS / variant.folder / f'seed{seed}')
    for seed in range(base.seed, base.seed + seeds)
    for variant in variants
  ]


def claim(workdir: pathlib.Path, base: ml_collections.ConfigDict, variants: Sequence[Variant]) -> None:
  """Writes what all cells share into a new workdir, or checks that this one holds the same.

  Seeds and variants may be added later, recipes not.

  Raises:
    UserError: another comparison lies there; the message lists the keys. The workdir cannot be written.
  """
  varied = sorted({key for variant in variants for key in variant.overrides})
  recipe = {
    key: value for key, value in flatten(base).items() if key not in ('seed', *varied) and key not in MACHINES_OWN
  }
  ours = json.loads(json.dumps({'varied': varied, 'recipe': recipe}))
  path = workdir / RECIPE
  if not path.exists() or not any(workdir.glob(f'{CELLS}/*/*/checkpoints/[0-9]*')):  # nothing was computed yet
    files.write(path, json.dumps(ours, indent=2) + '\n', 'workdir')
    return
  theirs = json.loads(path.read_text())
  lines = [] if theirs['varied'] == varied else [f'  compared: {theirs["varied"]} there, {varied} now']
  old, new = ({key: names.current(key, value) for key, value in each['recipe'].items()} for each in (theirs, ours))
  old = {key: value for key, value in keys.BEFORE.items() if key in new} | old  # a comparison of an older version
  both = sorted(old.keys() & new.keys()) if lines else sorted(old.keys() | new.keys())
  lines += [f'  {key}: {old.get(key)!r} there, {new.get(key)!r} now' for key in both if old.get(key) != new.get(key)]
  if lines:
    raise UserError(
      f'workdir={str(workdir)!r} holds a comparison with another recipe:\n'
      + '\n'.join(lines)
      + '\nSet these back, or give another --workdir.'
    )
