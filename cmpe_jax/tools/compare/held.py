"""What lies in a workdir, held against what is asked for now: runs of another recipe or of other data do not count."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import ml_collections

from cmpe_jax import keys, names
from cmpe_jax.config import flatten, plain
from cmpe_jax.errors import UserError
from cmpe_jax.tools.shared import results
from cmpe_jax.tools.shared.results import MACHINES_OWN, Content, Result

CELLS, RESULT, CONFIG, RECIPE = 'cells', 'result.json', 'config.json', 'comparison.json'
FIGURES = ('accuracy', 'loss', 'count', 'seconds', 'images')
BACK = '\nSet these back, or give another --workdir.'


def comparison(workdir: pathlib.Path, base: ml_collections.ConfigDict, varied: Sequence[str], data: str) -> Content:
  """What `RECIPE` in the workdir has to hold: what all cells share; held against what it holds already.

  Seeds and variants may be added later, recipes not.

  Args:
    workdir: of the comparison; it need not exist.
    base: the configuration, with what nobody has filled in yet.
    varied: the keys that the variants change.
    data: the dataset as `results.recipe` names it.

  Raises:
    UserError: another comparison lies there; the message lists the keys. What lies there cannot be read, or does not
      say what it is.
  """
  flat = {key: value for key, value in flatten(base).items() if key not in ('seed', *varied, *MACHINES_OWN)}
  ours = json.loads(json.dumps({'varied': varied, 'recipe': flat} | ({} if 'dataset' in varied else {'data': data})))
  path, finished = workdir / RECIPE, sorted(workdir.glob(f'{CELLS}/*/*/{RESULT}'))
  if not finished and not any(workdir.glob(f'{CELLS}/*/*/checkpoints/[0-9]*')):  # nothing was computed yet
    return ours
  if not path.exists():
    _check_each_says(finished, path)
    return ours
  theirs = read(path, 'remove it: each run is then held against its own configuration')
  if not isinstance(theirs.get('varied'), list) or not isinstance(theirs.get('recipe'), dict):
    raise _damaged(path, 'it has no recipe', 'remove it: each run is then held against its own configuration')
  if lines := _differences(theirs, ours):
    raise UserError(f'workdir={str(workdir)!r} holds a comparison with another recipe:\n' + '\n'.join(lines) + BACK)
  return {key: ours[key] for key in ours.keys() - theirs.keys()} | theirs  # an older version may go on with it, too


def _check_each_says(finished: Sequence[pathlib.Path], path: pathlib.Path) -> None:
  """Raises `UserError` for a run that nothing says the recipe of: of an older version, and `path` is not there."""
  for result in finished:
    if not (result.parent / CONFIG).exists() and 'recipe' not in read_result(result):
      raise UserError(
        f'{result} does not say what was run, and {path}, which older versions wrote, is missing: move '
        f'{result.parent} away, or give another --workdir.'
      )


def _differences(theirs: Content, ours: Content) -> list[str]:
  """A line a key that is not the same in the two files."""
  varied = ours['varied']
  lines = [] if theirs['varied'] == varied else [f'  compared: {theirs["varied"]} there, {varied} now']
  old, new = ({key: names.current(key, value) for key, value in each['recipe'].items()} for each in (theirs, ours))
  before = json.loads(json.dumps(keys.BEFORE))
  old = {key: value for key, value in before.items() if key in new} | old  # a comparison of an older version
  if lines:  # of other things: what one of the two varies says nothing
    old, new = ({key: each[key] for key in old.keys() & new.keys()} for each in (old, new))
  lines += results.differences(old, new)
  if 'data' in theirs and 'data' in ours and old.get('dataset') == new.get('dataset'):
    lines += results.differences({'dataset': theirs['data']}, {'dataset': ours['data']})
  return lines


def run(place: pathlib.Path, result: Content, config: ml_collections.ConfigDict, recipe: Content) -> list[str]:
  """The keys in which a finished run is not of this recipe, a line each.

  Args:
    place: its folder.
    result: what `read_result` gave.
    config: what is asked for now, with what nobody has filled in yet.
    recipe: `results.recipe` of it.

  Raises:
    UserError: its configuration cannot be read.
  """
  kept, asked = result.get('recipe'), recipe
  if kept is None and (place / CONFIG).exists():  # of an older version, which did not note the data
    kept, asked = read(place / CONFIG, f'move {place} away: the run is then done anew'), plain(config)
  try:
    return [] if kept is None else results.differences(results.identity(kept, []), results.identity(asked, []))
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise _damaged(place / RESULT, f'its recipe: {error}', f'move {place} away: the run is then done anew') from error


def read_result(path: pathlib.Path) -> Result:
  """What a finished run kept. Raises `UserError` if it cannot be read, or lacks a figure."""
  fix = 'remove it: the run goes on from its last checkpoint, and writes it again'
  found = read(path, fix)
  lacking = [name for name in FIGURES if type(found.get(name)) not in (int, float)]
  if lacking:
    raise _damaged(path, f'{lacking[0]} is no number', fix)
  return found


def read(path: pathlib.Path, fix: str) -> dict[str, Any]:
  """The object in a JSON file. Raises `UserError`, with that fix, if there is none."""
  try:
    found = json.loads(path.read_bytes())
  except (OSError, ValueError) as error:
    raise _damaged(path, str(error), fix) from error
  if not isinstance(found, dict):
    raise _damaged(path, 'it holds no object', fix)
  return found


def _damaged(path: pathlib.Path, why: str, fix: str) -> UserError:
  return UserError(f'{path} cannot be read ({why}): {fix}.')
