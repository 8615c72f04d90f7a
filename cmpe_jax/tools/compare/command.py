"""Which variants are compared, and their cells one after the other, through interruptions."""

import gc
import importlib.util
import json
import pathlib
from collections.abc import Iterable, Sequence

import jax
from absl import flags
from ml_collections.config_flags import config_flags

from cmpe_jax import keys, names
from cmpe_jax.config import check, plain
from cmpe_jax.errors import Interrupted, UserError, check_choice
from cmpe_jax.runtime import command, files, printing, start, watch
from cmpe_jax.tools.compare import cells, held, hyperparameters, output
from cmpe_jax.tools.compare.cells import Cell, Variant
from cmpe_jax.tools.compare.comparison import Comparison
from cmpe_jax.tools.compare.progress import Progress
from cmpe_jax.tools.compare.record import FILE, Record
from cmpe_jax.tools.shared import results
from cmpe_jax.tools.shared.results import Result
from cmpe_jax.training.console import Console


def gate_variants(gates: Sequence[str]) -> list[Variant]:
  """['none', 'se'] -> variants. Raises `UserError`: an unknown name, one twice, fewer than two."""
  for gate in gates:
    check_choice('--gates: gate', gate, tuple(names.GATES))
  return _distinct([Variant(gate, {'model.gate': gate}) for gate in gates], '--gates')


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
  for overrides in listed:
    if not isinstance(overrides, dict) or not overrides or not overrides.keys() <= keys.ALL.keys() - {'seed'}:
      raise UserError(
        f'get_sweep() of {file} lists {overrides!r}: give dicts of keys of cmpe_jax/keys.py (not seed) and values, '
        "such as {'model.gate': 'se'}."
      )
  named = [Variant(', '.join(f'{key}={value}' for key, value in each.items()), dict(each)) for each in listed]
  return _distinct(named, f'get_sweep() of {file}')


def _distinct(variants: list[Variant], where: str) -> list[Variant]:
  given = [variant.name for variant in variants]
  double = sorted({name for name in given if given.count(name) > 1})
  if double:
    raise UserError(f'{where} names {", ".join(double)} twice: name everything once.')
  if len(given) < 2:
    raise UserError(f'{where} names {len(given)} thing: a comparison needs two at least.')
  return variants


def run_all(comparison: Comparison, record: Record, workdir: pathlib.Path) -> None:
  """Runs what is not finished, here or in the record, and writes what is known after each run.

  Raises:
    UserError: a cell cannot be run or fails, or has one result here and another in the record.
    Interrupted: by a signal.
  """
  known = {cell: result for cell in comparison.cells if (result := _finished(cell, comparison, record))}
  progress = Progress(len(comparison.cells), len(known))

  def tell(cells: Iterable[Cell]) -> None:
    comparison.add(list(known.values()))
    record.add(comparison.results)
    output.write(comparison, workdir)
    for cell in cells:
      hyperparameters.write(comparison, cell, workdir)

  if known:
    tell(known)
  for cell in comparison.cells:
    if cell not in known:
      elsewhere = _finished(cell, comparison, record)  # by another process, meanwhile
      if elsewhere:
        progress.skip(cell)
        known[cell] = elsewhere
      else:
        known[cell] = _run(cell, comparison, progress)
        _finished(cell, comparison, record)  # another process may have run it too, and have another result
      tell([cell])
      if watch.told():  # too late for the cell to stop
        raise Interrupted('stopped between two runs: the same command goes on.')


def _finished(cell: Cell, comparison: Comparison, record: Record) -> Result | None:
  here, there = cell.result(comparison.recipes[cell.variant]), record.find(cell.variant, cell.seed)
  if here and there and not results.same(here, there):
    raise UserError(
      f'{cell} has an accuracy of {there["accuracy"]} in {record.path} and of {here["accuracy"]} in {cell.place}: '
      f'remove {cell.place}, or {record.path}, whichever is not to count.'
    )
  return there or here


def _run(cell: Cell, comparison: Comparison, progress: Progress) -> Result:
  files.write(cell.place / held.CONFIG, json.dumps(plain(cell.config), indent=2) + '\n', 'workdir')
  start.jax(cell.config.dtype)
  with (cell.place / cells.LOG).open('a') as log:
    progress.enter(cell)
    try:
      result = cell.run(Console(log, progress.step), comparison.recipes[cell.variant])
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


def chosen_places() -> tuple[pathlib.Path, pathlib.Path]:
  """The workdir and the file of finished runs. Raises `UserError`: one of them is a bucket's.

  Without --workdir comparisons that are different, by their files of results or by what they vary, have different ones.
  """
  given, name = flags.FLAGS, command.config_name()
  own = pathlib.PurePath(given.results).stem if given.results else f'{name}_sweep' if given.sweep else name
  workdir = files.local(given.workdir or f'runs/compare_{own}', 'workdir')
  return workdir, files.local(given.results, 'results') if given.results else workdir / FILE


def main() -> None:
  """The command."""
  config, seeds = command.given_config('configs/digits.py'), flags.FLAGS.seeds
  if seeds < 2:
    raise UserError(f'--seeds={seeds} gives no interval: it needs two runs of everything at least, five are better.')
  variants = chosen_variants()
  check(config)
  for variant in variants:
    variant.check(config)
  start.check_platform()
  workdir, file = chosen_places()
  comparison = Comparison(command.config_name(), config, variants, cells.plan(config, variants, seeds, workdir))
  claimed = held.comparison(workdir, config, comparison.varied, comparison.recipe['dataset'])
  record = Record(file, comparison)
  files.write(workdir / held.RECIPE, json.dumps(claimed, indent=2) + '\n', 'workdir')  # once all agree with it
  run_all(comparison, record, workdir)
  printing.line('\n' + output.text(comparison, workdir))
