"""Which image files a run trains on and tests on, told by short checksums of their names, and what has changed since.

They lie in every checkpoint. 48 bits for each file: of a million names two are alike once in five hundred times.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable

import numpy as np

from cmpe_jax.data import listing
from cmpe_jax.data.datasets.dataset import Content
from cmpe_jax.errors import UserError

# By split: the sorted marks of its files, as text; {} where examples are no files. 'validation', a part of 'train', is
# there if something is held out.
Marks = dict[str, str]
_SIZE = 6  # bytes


def of(content: Content, held_out: Callable[[np.ndarray], np.ndarray] | None = None) -> Marks:
  """Those of a dataset. `held_out`: from the labels of the training split to the rows held out, if some are."""
  names = {split: content.names(split) for split in ('train', 'test')}
  if not any(names.values()):
    return {}
  if held_out:
    names['validation'] = [names['train'][row] for row in held_out(content.labels('train'))]
  return {split: _text(map(_mark, given)) for split, given in names.items()}


def _mark(name: str) -> bytes:
  return hashlib.blake2b(listing.normalized(name), digest_size=_SIZE).digest()


def _text(marks: Iterable[bytes]) -> str:
  return base64.b64encode(b''.join(sorted(marks))).decode()


def _read(text: str) -> set[bytes]:
  data = base64.b64decode(text)
  return {data[i : i + _SIZE] for i in range(0, len(data), _SIZE)}


def changes(then: Marks, now: Marks, name: str, trains: bool) -> str:
  """What has changed since the run began, in a sentence; '' if nothing has, or if it is not known.

  Args:
    then: the marks in the checkpoint.
    now: those of the same folder today.
    name: of the dataset.
    trains: whether there will be training, else an evaluation.

  Raises:
    UserError: images that were trained on are test images now, or would be trained on after they were tested; or the
      part that is held out would be another one, which is drawn from all training images.
  """
  if not then or not now or then == now:
    return ''
  old, new = ({split: _read(text) for split, text in marks.items()} for marks in (then, now))
  for origin, target, said in (('train', 'test', 'was trained on'), ('test', 'train', 'was kept for testing')):
    moved = (new[target] - old[target]) & (old[origin] - new[origin])
    if moved and (trains or target == 'test'):
      raise UserError(
        f'dataset={name!r} has changed since the run began: {len(moved)} images of its {target} part are files of the '
        f'{origin} part then, which {said}. Move them back, or train anew in another --workdir.'
      )
  if trains and 'validation' in new and (others := _otherwise_held(old, new)):
    raise UserError(
      f'dataset={name!r} has changed since the run began, and with it which training images are held out for '
      f'validation: {others}. Put the folder back as it was, or train anew in another --workdir.'
    )
  told = [
    f'its {split} part has {len(new[split] - old[split])} files more and {len(old[split] - new[split])} fewer'
    for split in (('train', 'test') if trains else ('test',))
    if new[split] != old[split]
  ]
  end = 'an uninterrupted run would have seen others' if trains else 'the figures are of other images than before'
  return f'dataset={name!r} has changed since the run began: {" and ".join(told)}; {end}.' if told else ''


def _otherwise_held(old: dict[str, set[bytes]], new: dict[str, set[bytes]]) -> str:
  """How many files that are still there are on another side of what is held out, for people; '' if none is."""
  if 'validation' not in old:  # a version that did not note it
    return 'its train part is another one' if old['train'] != new['train'] else ''
  there = old['train'] & new['train']
  shown, hidden = (new['validation'] - old['validation']) & there, (old['validation'] - new['validation']) & there
  told = f'{len(shown)} that were trained on would be, {len(hidden)} that were would be trained on'
  return told if shown or hidden else ''
