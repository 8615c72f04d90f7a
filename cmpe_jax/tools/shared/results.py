"""Files of finished runs: `compare` writes them and goes on from them, `board` collects them.

A file has a hash of its contents. It is a guard against slips, such as a figure that was edited or a merge that went
wrong, and not against deceit: whoever wants to can hash again.
"""

import copy
import hashlib
import json
import math
import pathlib
import re
from typing import Any

import ml_collections

from cmpe_jax import config as configuration
from cmpe_jax import keys
from cmpe_jax.data.datasets import Dataset, folder, known_folders
from cmpe_jax.errors import UserError

FORMAT = 1
MACHINES_OWN = ('data_dir', 'input_threads', 'input_processes', 'resident_megabytes')  # keys that say nothing of a run
DATA = ('dataset', 'split_seed', 'split_by')  # keys that decide which images are tested
LISTS = ('runs', 'rows', 'notes')  # of which each element has a line of its own, so that files merge and can be read
Content = dict[str, Any]
Result = dict[str, Any]  # of one run: 'variant', 'seed', 'accuracy', 'loss', 'count', 'seconds', 'images', ...


def recipe(config: ml_collections.ConfigDict, dataset: Dataset, named: str = '') -> Content:
  """Every key of a resolved configuration, without what is the machine's own; a folder is named after its files.

  `named`: that name, where it is known, because it takes a look at every file.
  """
  values = configuration.plain(config) | {key: keys.KEYS[key].default for key in MACHINES_OWN}
  if isinstance(dataset.content, folder.Content):
    values['dataset'] = named or f'folder:{known_folders.digest(dataset.content.listing)}'
  return values


def identity(recipe: Content, varied: list[str]) -> Content:
  """The keys that two files must share to be of one recipe: all that change what the steps of a run compute."""
  flat = configuration.flatten(configuration.from_plain(recipe))
  ignored = {'seed', *varied, *MACHINES_OWN} | {name for name, key in keys.ALL.items() if key.free} - {'epochs'}
  return json.loads(json.dumps({key: value for key, value in sorted(flat.items()) if key not in ignored}))


def differences(one: Content, other: Content) -> list[str]:
  """The keys in which two identities differ, a line each."""
  both = sorted(one.keys() | other.keys())
  return [
    f'  {key}: {one.get(key)!r} there, {other.get(key)!r} now{_explained(other.get(key))}'
    for key in both
    if one.get(key) != other.get(key)
  ]


def _explained(value: object) -> str:
  """What the name of a folder stands for."""
  is_one = isinstance(value, str) and re.fullmatch(r'folder:[0-9a-f]{16}', value)
  return ' (of the names and sizes of its files)' if is_one else ''


def text(content: Content) -> str:
  """The file, with its hash; numbers that do not exist are null."""
  content = finite({key: value for key, value in content.items() if key != 'hash'})
  content['hash'] = _hash(content)
  parts = []
  for key, value in content.items():
    if key in LISTS and value:
      inner = ',\n'.join(f'  {json.dumps(each)}' for each in value)
      parts.append(f'{json.dumps(key)}: [\n{inner}\n]')
    else:
      parts.append(f'{json.dumps(key)}: {json.dumps(value)}')
  return '{\n' + ',\n'.join(parts) + '\n}\n'


def finite(content: Any) -> Any:
  """JSON has no nan."""
  if isinstance(content, dict):
    return {key: finite(value) for key, value in content.items()}
  if isinstance(content, list | tuple):
    return [finite(value) for value in content]
  return None if isinstance(content, float) and math.isnan(content) else content


def same(one: Result, other: Result) -> bool:
  """Whether two results of a run are one."""
  one, other = finite(one), finite(other)  # as they are kept
  return all(one[key] == other[key] for key in ('accuracy', 'loss', 'count'))


def _hash(content: Content) -> str:
  bare = {key: value for key, value in content.items() if key != 'hash'}
  return hashlib.sha256(json.dumps(bare, sort_keys=True, separators=(',', ':')).encode()).hexdigest()


def load(path: pathlib.Path) -> Content:
  """A file's contents, after all checks.

  Raises:
    UserError: it is no such file, its hash does not fit, or its recipe, its seeds or its figures cannot be.
  """
  try:
    content = json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise UserError(f'{path} cannot be read as JSON ({error}): take the file as compare wrote it.') from error
  if not isinstance(content, dict) or content.get('format') != FORMAT:
    raise UserError(f'{path} is not of format {FORMAT}: give a file that compare of this version wrote.')
  if content.get('hash') != _hash(content):
    raise UserError(
      f'{path} is not as compare wrote it: its hash is {str(content.get("hash"))[:12]}, that of its contents is '
      f'{_hash(content)[:12]}. Take the file as it was written, or repeat the runs.'
    )
  try:
    _check_recipe(content)
    _check_runs(content)
  except UserError as error:
    raise UserError(f'{path} does not fit: {error}') from error
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise UserError(f'{path} does not fit: {type(error).__name__}: {error}. Take it as compare wrote it.') from error
  return content


def _check_recipe(content: Content) -> None:
  given, varied = content['recipe'], content['varied']
  configuration.check(configuration.from_plain(given))
  if unknown := sorted(set(varied) - keys.ALL.keys()):
    raise UserError(f'it varies {unknown}, which are no keys of the configuration.')
  for name, overrides in content['variants'].items():
    if not set(overrides) <= set(varied):
      raise UserError(f'variant {name!r} changes {sorted(overrides)}, but the recipe varies {varied}.')
    try:
      configuration.check(configuration.from_plain(_changed(given, overrides)))
    except (UserError, KeyError, TypeError, ValueError) as error:
      raise UserError(f'variant {name!r} cannot be: {error}') from error


def _changed(recipe: Content, overrides: Content) -> Content:
  """A recipe with what a variant changes, {'model.gate': 'se'}."""
  changed = copy.deepcopy(recipe)
  for key, value in overrides.items():
    group, _, name = key.rpartition('.')
    (changed[group] if group else changed)[name] = value
  return changed


def _check_runs(content: Content) -> None:
  seen = set()
  counts: dict[str, int] = {}  # of test images, by variant, where each may have others
  moves = not set(content['varied']).isdisjoint(DATA)
  for run in content['runs']:
    name, seed, count, accuracy = (run[key] for key in ('variant', 'seed', 'count', 'accuracy'))
    which = f'run {name!r} with seed {seed}'
    if name not in content['variants']:
      raise UserError(f'{which} is of none of its variants, {", ".join(content["variants"])}.')
    if not isinstance(seed, int) or seed < 0 or seed not in content['seeds']:
      raise UserError(f'{which} has a seed that is none of its {content["seeds"]}.')
    if (name, seed) in seen:
      raise UserError(f'{which} is there twice.')
    wanted = counts.setdefault(name, count) if moves else content['test_images']
    if count != wanted:
      raise UserError(f'{which} was tested on {count} images, the recipe has {wanted}.')
    if not 0 <= accuracy <= 1 or abs(accuracy * count - round(accuracy * count)) > 0.01:
      raise UserError(f'{which} has an accuracy of {accuracy}, which is no part of {count} images.')
    seen.add((name, seed))
