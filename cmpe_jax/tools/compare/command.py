"""Is one gate better than another on these data? The same recipe, seeds and batches for each, and paired differences.

`python -m cmpe_jax.tools.compare --config=configs/digits.py --gates=none,se,pair_1x1 --seeds=5 --workdir=runs/gates`
trains every cell in its own folder and writes a table, CSV, JSON and an HTML report. Interrupted, the same command goes
on. With --sweep it compares what the configuration's get_sweep() lists instead of gates.
"""

import contextlib
import gc
import importlib.util
import json
import os
import pathlib
import signal
import sys
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags
from ml_collections.config_flags import config_flags

from cmpe_jax import command, memory
from cmpe_jax import config as configs
from cmpe_jax.cache import compile_cache
from cmpe_jax.errors import Interrupted, UserError, check_choice
from cmpe_jax.tools import cells as cell_files
from cmpe_jax.tools import results
from cmpe_jax.tools.cells import Cell, Variant

REFERENCES = ('se', 'none')


def gate_variants(names: Sequence[str]) -> list[Variant]:
  """['none', 'se'] -> variants. Raises `UserError`: an unknown name, one twice, fewer than two."""
  for name in names:
    check_choice('--gates: gate', name, configs.GATES)
  return _distinct([Variant(name, {'model.gate': name}) for name in names], '--gates')


def sweep_variants(file: str) -> list[Variant]:
  """The variants that `get_sweep()` of a configuration file lists: [{'learning_rate': 0.05}, ...].

  Raises:
    UserError: it has no such function, or something else is in the list.
  """
  spec = importlib.util.spec_from_file_location('swept', file)
  assert spec
  assert spec.loader
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not hasattr(module, 'get_sweep'):
    raise UserError(f'{file} has no get_sweep(): define one that returns a list such as [{{"learning_rate": 0.05}}].')
  try:
    listed = list(module.get_sweep())
  except Exception as error:  # whatever a file of the user's does
    raise UserError(f'get_sweep() of {file} does not give a list ({type(error).__name__}: {error}).') from error
  known = configs.flatten(configs.base())
  for overrides in listed:
    if not isinstance(overrides, dict) or not overrides or not overrides.keys() <= known.keys() - {'seed'}:
      raise UserError(
        f'get_sweep() of {file} lists {overrides!r}: give dicts of keys of cmpe_jax/config.py (not seed) and values, '
        "such as {'model.gate': 'se'}."
      )
  named = [Variant(', '.join(f'{key}={value}' for key, value in each.items()), dict(each)) for each in listed]
  return _distinct(named, f'get_sweep() of {file}')


def _distinct(variants: list[Variant], where: str) -> list[Variant]:
  names = [variant.name for variant in variants]
  double = sorted({name for name in names if names.count(name) > 1})
  if double:
    raise UserError(f'{where} names {", ".join(double)} twice: name everything once.')
  if len(names) < 2:
    raise UserError(f'{where} names {len(names)} thing: a comparison needs two at least.')
  return variants


class Signals:
  """Notices SIGTERM and SIGINT that come while no cell listens, or too late for it to stop."""

  def __enter__(self) -> 'Signals':
    self._read, self._write = os.pipe()
    for end in (self._read, self._write):
      os.set_blocking(end, False)
    self._before = signal.signal(signal.SIGTERM, self._stop)
    self._descriptor = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
    return self

  def __exit__(self, *error: object) -> None:
    signal.set_wakeup_fd(self._descriptor)
    signal.signal(signal.SIGTERM, self._before)
    os.close(self._read)
    os.close(self._write)

  def _stop(self, number: int, frame: Any) -> None:
    raise Interrupted('stopped between two runs: the same command goes on.')

  def check(self) -> None:
    """Raises `Interrupted` if a signal came at any time."""
    with contextlib.suppress(BlockingIOError):
      if not {signal.SIGTERM, signal.SIGINT}.isdisjoint(os.read(self._read, 4096)):
        raise Interrupted('stopped between two runs: the same command goes on.')


def run_all(planned: Sequence[Cell], variants: Sequence[Variant], report: Any) -> list[dict[str, Any]]:
  """Runs what is not finished; calls `report(results so far)` after each round of all variants.

  Raises:
    UserError: a cell cannot be run or fails.
    Interrupted: by a signal.
  """
  found: list[dict[str, Any]] = []
  finished = sum(cell.result() is not None for cell in planned)
  progress = cell_files.Progress(sys.stdout, len(planned), finished)
  with Signals() as signals:
    for cell in planned:
      result = cell.result()
      if result is None:
        result = _run(cell, progress)
        signals.check()
      found.append(result)
      if len(found) % len(variants) == 0 and len(found) >= 2 * len(variants):
        report(found)
  return found


def _run(cell: Cell, progress: cell_files.Progress) -> dict[str, Any]:
  cell_files.write(cell.place / 'config.json', json.dumps(configs.plain(cell.config), indent=2) + '\n')
  jax.config.update('jax_enable_x64', cell.config.dtype == 'float64')
  with (cell.place / cell_files.LOG).open('a') as log:
    progress.enter(cell, log)
    try:
      with contextlib.redirect_stdout(progress):
        result = cell.run()
    except Interrupted as error:
      raise Interrupted(f'{cell}: {error}') from error
  progress.leave(result)
  jax.clear_caches()  # of programs that no other cell uses
  gc.collect()
  return result


def chosen_variants() -> list[Variant]:
  """What the flags ask for. Raises `UserError` if they do not fit together."""
  given = flags.FLAGS
  overridden = config_flags.get_override_values(given['config'])
  if given.sweep:
    if given['gates'].present:
      raise UserError('--gates and --sweep are two comparisons: give one of them.')
    variants = sweep_variants(config_flags.get_config_filename(given['config']).split(':')[0])
  else:
    variants = gate_variants(given.gates)
  for key in sorted({key for variant in variants for key in variant.overrides} & overridden.keys()):
    raise UserError(f'--config.{key} would do nothing, because the comparison varies it: leave it out.')
  return variants


def references(variants: Sequence[Variant]) -> list[str]:
  """What the others are compared with: se and none, and where neither is there the first of the list."""
  names = [variant.name for variant in variants]
  return [name for name in REFERENCES if name in names] or names[:1]


def main() -> None:
  """The command."""
  config, seeds = command.given_config('configs/digits.py'), flags.FLAGS.seeds
  if seeds < 2:
    raise UserError(f'--seeds={seeds} gives no interval: it needs two runs of everything at least, five are better.')
  variants = chosen_variants()
  compile_cache()
  memory.keep()
  configs.check(config)
  for variant in variants:
    variant.check(config)
  place = flags.FLAGS.workdir or f'runs/compare_{command.config_name()}'
  if '://' in place:
    raise UserError(
      f'--workdir={place} is not a folder of this machine: a comparison needs one, and runs on one machine.'
    )
  workdir = pathlib.Path(place).expanduser()
  cell_files.claim(workdir, config, variants)
  planned = cell_files.plan(config, variants, seeds, workdir)
  comparison = results.Comparison(command.config_name(), config, variants, references(variants), planned, workdir)
  run_all(planned, variants, comparison.write)
  print('\n' + comparison.text())


if __name__ == '__main__':
  command.config_flag()
  flags.DEFINE_list('gates', list(configs.GATES), 'The gates to compare.')
  flags.DEFINE_integer('seeds', 5, 'Runs of each, with the seeds config.seed, config.seed + 1, ...')
  flags.DEFINE_bool('sweep', False, "Compare what the configuration's get_sweep() lists instead of gates.")
  flags.DEFINE_string('workdir', None, 'Where everything is written; default: runs/compare_<config name>.')
  sys.exit(command.run(main))
