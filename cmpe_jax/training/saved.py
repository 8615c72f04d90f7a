"""The folders of checkpoints as plain files, without Orbax: which are there and whole, and what is put aside.

A checkpoint gets its name when all of it is written (in a bucket, where nothing can be renamed at once: a mark, written
last). So one that has it and lacks a file, or holds one that cannot be read, was damaged afterwards. One that is not
kept any more first loses its name, but in a bucket: it goes to `removed/` whole, and is deleted there.
"""

import json
import pathlib
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

from etils import epath

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import files, places
from cmpe_jax.training import checksums

ASIDE, REMOVED = 'damaged', 'removed'
NEEDED = ('_CHECKPOINT_METADATA', 'state/_METADATA', 'config/metadata')
CHECKSUMS, CONFIG, SCORE = 'checksums/metadata', 'config/metadata', 'metrics/metrics'


class Damaged(UserError):
  """A checkpoint whose files are not what was written."""

  def __init__(self, path: epath.Path, why: str):
    """`path` of the checkpoint; `why` in a few words."""
    super().__init__(f'{path} is damaged ({why}): remove it to go on from the one before it.')
    self.path, self.why = path, why


def steps(directory: epath.Path) -> list[int]:
  """The steps of the checkpoints that were finished, in order."""
  gone: list[epath.Path] = []
  while True:
    listed = list(directory.iterdir()) if directory.exists() else []  # a bucket has no empty folders
    found = [path for path in listed if path.name.isdigit()]
    finished = sorted(int(path.name) for path in found if _is_finished(path))
    before, gone = gone, [path for path in found if not path.exists()]
    if finished or gone == before:
      return finished  # else the run has deleted what was listed, and has a newer one


def _is_finished(path: epath.Path) -> bool:
  if places.is_bucket(path):
    return (path / 'commit_success.txt').exists()
  try:
    return any(part.is_file() or any(part.iterdir()) for part in path.iterdir())
  except FileNotFoundError:  # Orbax removes it at this moment
    return False


def record(path: epath.Path) -> checksums.Record | None:
  """The checksums of a checkpoint; None if it is of a version that wrote none.

  Raises:
    Damaged: they were written, and are not there or changed; or files of the checkpoint are missing.
  """
  for name in NEEDED:
    if not (path / name).exists():
      raise Damaged(path, f'{name} is missing')
  outline = _json(path, NEEDED[0])
  if not (path / CHECKSUMS).exists():
    if not isinstance(outline, dict) or 'checksums' in outline.get('item_handlers', ()):
      raise Damaged(path, f'{CHECKSUMS} is missing')
    return None
  found = _json(path, CHECKSUMS)
  if not checksums.is_whole(found):
    raise Damaged(path, f'{CHECKSUMS} has changed')
  return found


def config(path: epath.Path) -> dict[str, Any]:
  """The configuration of a checkpoint, as JSON holds it. Raises `Damaged`."""
  kept, found = record(path), _json(path, CONFIG)
  if not isinstance(found, dict) or (kept and kept['config'] != checksums.of_json(found)):
    raise Damaged(path, f'{CONFIG} has changed')
  return found


def score(path: epath.Path, name: str) -> float | None:
  """The validation score of a checkpoint, if it has one. Raises `Damaged`."""
  kept = record(path)
  found = _json(path, SCORE) if (path / SCORE).exists() else {name: None}
  if not isinstance(found, dict) or name not in found or (kept and kept['score'] != found[name]):
    raise Damaged(path, f'{SCORE} has changed')
  return found[name]


def make(directory: epath.Path) -> None:
  """Makes the directory of checkpoints. Raises `UserError` if it cannot be written."""
  places.check_bucket(directory)
  try:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / '.writable').write_text('')
    (directory / '.writable').unlink(missing_ok=True)  # a removal whose answer was lost is done twice
  except OSError as error:
    raise places.explain(error) or UserError(
      f'workdir={str(directory.parent)!r} cannot be written ({error.strerror or error}): give another --workdir.'
    ) from error


def prepare(directory: epath.Path, name: str) -> list[str]:
  """Removes what a killed process left half written, and puts aside what cannot even be listed (see `put_aside`).

  Args:
    directory: of the checkpoints.
    name: of the score.

  Returns:
    What was put aside, in sentences.
  """
  delete_removed(directory)
  finished = steps(directory)
  for path in directory.iterdir() if directory.exists() else ():
    if path.name.isdigit() and int(path.name) not in finished:
      path.rmtree()
  damaged = {}
  for step in finished:
    path = directory / str(step)
    try:
      _mend_score(path, name)
      score(path, name)
    except Damaged as error:
      damaged[step] = error.why
  return put_aside(directory, finished, damaged)


def delete_removed(directory: epath.Path) -> None:
  """Deletes the checkpoints that are not kept any more; in a bucket, which cannot rename, Orbax has done so itself."""
  if not places.is_bucket(directory):
    shutil.rmtree(directory / REMOVED, ignore_errors=True)  # what somebody reads, on a network's disk, goes next time


def _mend_score(path: epath.Path, name: str) -> None:
  """Orbax chooses what to keep by a file that the checksums hold as well: if it is damaged, it is written again."""
  kept = record(path)
  if kept and kept['score'] is not None:
    try:
      score(path, name)
    except Damaged:
      _replace(path / SCORE, {name: kept['score']})


def add_score(path: epath.Path, name: str, score: float) -> None:
  """Writes the score of a checkpoint that has none: first where `_mend_score` finds it, if the process ends here."""
  kept = record(path)
  if kept:
    _replace(path / CHECKSUMS, checksums.closed(kept | {'score': score}))
  _replace(path / SCORE, {name: score})


def _replace(path: epath.Path, values: Any) -> None:
  """Writes a file whole or not at all; in a bucket every write is so."""
  if places.is_bucket(path):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values))
  else:
    files.replace(pathlib.Path(path), json.dumps(values))


def put_aside(directory: epath.Path, finished: Iterable[int], damaged: dict[int, str]) -> list[str]:
  """Moves damaged checkpoints to `damaged/`; {step: why} in, sentences out.

  Raises:
    Damaged: all are; then none is moved, for who starts the run to decide.
  """
  if damaged and damaged.keys() >= set(finished):
    newest = max(damaged)
    raise Damaged(directory / str(newest), f'{damaged[newest]}; no other checkpoint is intact')
  return [_move(directory / str(step), why) for step, why in sorted(damaged.items())]


def _move(path: epath.Path, why: str) -> str:
  aside = path.parent / ASIDE / path.name
  number = 1
  while aside.exists():
    number += 1
    aside = path.parent / ASIDE / f'{path.name}.{number}'
  if places.is_bucket(path):
    for file in _files(path):
      (aside / file.relative_to(path)).write_bytes(file.read_bytes())
    (path / 'commit_success.txt').unlink(missing_ok=True)  # what a kill leaves from here on is removed as half written
    path.rmtree()
  else:
    aside.parent.mkdir(exist_ok=True)
    path.rename(aside)
  return f'{path} is damaged ({why}): it lies in {aside} now'


def _files(path: epath.Path) -> Iterator[epath.Path]:
  for part in path.iterdir():
    yield from _files(part) if part.is_dir() else (part,)


def _json(path: epath.Path, name: str) -> Any:
  try:
    return json.loads((path / name).read_text())
  except FileNotFoundError:
    raise Damaged(path, f'{name} is missing') from None
  except ValueError:  # no UTF-8, no JSON
    raise Damaged(path, f'{name} has changed') from None
