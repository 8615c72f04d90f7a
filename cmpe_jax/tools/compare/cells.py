"""The cells of a comparison: what is run, in which folder, and what came out. A finished cell is never run again."""

import dataclasses
import datetime
import io
import json
import pathlib
import re
import time
import zlib
from collections.abc import Sequence
from typing import Any, TextIO

import ml_collections

from cmpe_jax import config as configs
from cmpe_jax import evaluate, metrics, models, train
from cmpe_jax.data import datasets
from cmpe_jax.errors import UserError
from cmpe_jax.tools import files

RESULT, LOG, RECIPE = 'result.json', 'log.txt', 'comparison.json'
FREE_KEYS = ('data_dir', 'input_threads', 'input_processes', 'resident_megabytes')  # may differ between machines


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
      raise UserError(f'{self.name}: {error} (keys and types are in cmpe_jax/config.py).') from error
    config.seed = seed
    return config

  def check(self, base: ml_collections.ConfigDict) -> None:
    """Raises `UserError`, naming the variant, for whatever can be judged without compiling."""
    try:
      config = self.config(base, base.seed)
      configs.check(config)
      models.of_run(datasets.resolve(config))
    except UserError as error:
      raise UserError(f'{self.name} cannot be compared: {error}') from error

  @property
  def folder(self) -> str:
    """The name as one of a folder."""
    plain = re.sub(r'[^\w.=,+-]+', '_', self.name)
    return plain if plain == self.name and len(plain) < 80 else f'{plain[:60]}-{zlib.crc32(self.name.encode()):08x}'


@dataclasses.dataclass(frozen=True)
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

  def result(self) -> dict[str, Any] | None:
    """What `run` found, or None: not finished."""
    path = self.place / RESULT
    return json.loads(path.read_text()) if path.exists() else None

  def begun(self) -> bool:
    """Whether there is a checkpoint to go on from."""
    checkpoints = self.place / 'checkpoints'
    return checkpoints.exists() and any(path.name.isdigit() for path in checkpoints.iterdir())

  def run(self) -> dict[str, Any]:
    """Trains, from the newest checkpoint if there is one, and evaluates the final weights on the test split.

    Raises:
      UserError: as `train.run`, with the cell's name.
    """
    try:
      values = train.run(self.config, str(self.place))
      if self.config.validation:  # what was printed is of the best weights on the validation part
        values = evaluate.run(self.config, str(self.place), 'newest')
    except UserError as error:
      raise UserError(f'{self} failed: {error} Its log is {self.place / LOG}; finished runs are kept.') from error
    group = 'eval_ema' if self.config.ema_decay else 'eval'
    seconds, images = training_time(self.lines(), self.config.batch_size)
    found = {name: values[f'{group}/{name}'] for name in ('accuracy', 'loss', 'count')}
    result = {'variant': self.variant, 'seed': self.seed, **found, 'seconds': seconds, 'images': images}
    write(self.place / RESULT, json.dumps(result, indent=2) + '\n')
    return result

  def lines(self) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (self.place / metrics.FILE).read_text().splitlines()]


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
    Cell(variant.name, seed, variant.config(base, seed), workdir / 'cells' / variant.folder / f'seed{seed}')
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
    key: value for key, value in configs.flatten(base).items() if key not in ('seed', *varied) and key not in FREE_KEYS
  }
  ours = json.loads(json.dumps({'varied': varied, 'recipe': recipe}))
  path = workdir / RECIPE
  if not path.exists() or not any(workdir.glob('cells/*/*/checkpoints/[0-9]*')):  # nothing was computed yet
    write(path, json.dumps(ours, indent=2) + '\n')
    return
  theirs = json.loads(path.read_text())
  lines = [] if theirs['varied'] == varied else [f'  compared: {theirs["varied"]} there, {varied} now']
  old, new = theirs['recipe'], ours['recipe']
  both = sorted(old.keys() & new.keys()) if lines else sorted(old.keys() | new.keys())
  lines += [f'  {key}: {old.get(key)!r} there, {new.get(key)!r} now' for key in both if old.get(key) != new.get(key)]
  if lines:
    raise UserError(
      f'workdir={str(workdir)!r} holds a comparison with another recipe:\n' + '\n'.join(lines)
      + '\nSet these back, or give another --workdir.'
    )  # fmt: skip


def write(path: pathlib.Path, text: str) -> None:
  """Writes a file whole or not at all. Raises `UserError` if it cannot."""
  try:
    files.replace(path, text)
  except OSError as error:
    raise UserError(f'{path} cannot be written ({error.strerror or error}): give another --workdir.') from error


class Progress(io.TextIOBase):
  """Stands in for stdout while a cell runs: all goes into its log, and now and then a short line to the console."""

  STEP = re.compile(r'step +(\d+)/(\d+) ')
  EVERY = 10.0  # seconds

  def __init__(self, console: TextIO, cells: int, finished: int):
    """`cells` in all, of which `finished` were there before."""
    self._console, self._cells, self._finished = console, cells, finished
    self._began = self._shown = time.monotonic()
    self._worked = self._part = 0.0
    self._base: float | None = None
    self._log: TextIO = console
    self._line = ''
    self._cell: Cell | None = None

  def enter(self, cell: Cell, log: TextIO) -> None:
    """The cell that begins (or goes on), and its log."""
    self._cell, self._log, self._line, self._part = cell, log, '', 0.0
    self._base = None if cell.begun() else 0.0
    self._say('goes on from its checkpoint' if cell.begun() else 'begins')

  def leave(self, result: dict[str, Any]) -> None:
    """The cell is finished."""
    self._worked += 1 - (self._base or 0.0)
    self._finished, self._part, self._base = self._finished + 1, 0.0, 0.0
    self._say(f'accuracy {result["accuracy"]:.2%}, {result["seconds"]:.0f} s of training')

  def write(self, text: str) -> int:
    """Takes what is printed."""
    self._log.write(text)
    *lines, self._line = (self._line + text).split('\n')
    for line in lines:
      if match := self.STEP.match(line):
        self._part = int(match[1]) / int(match[2])
        self._base = self._part if self._base is None else self._base
        if time.monotonic() - self._shown > self.EVERY:
          self._say(f'step {match[1]}/{match[2]}')
    return len(text)

  def flush(self) -> None:
    """Both."""
    self._log.flush()

  def _left(self) -> str:
    """How long the rest takes at the speed so far."""
    worked = self._worked + self._part - (self._base or 0.0)
    rest = self._cells - self._finished - self._part
    if not rest:
      return ''
    if worked < 0.02:
      return ', ETA unknown yet'
    seconds = rest * (time.monotonic() - self._began) / worked
    return f', ETA {datetime.timedelta(seconds=round(seconds))}'

  def _say(self, text: str) -> None:
    self._shown = time.monotonic()
    print(
      f'[{self._finished} of {self._cells} done{self._left()}]  {self._cell}: {text}', file=self._console, flush=True
    )
