"""Names what is on images: `python -m cmpe_jax.tools.predict --workdir=runs/digits FILE_OR_FOLDER...`.

`--pretrained=digits` needs no run. Images are prepared as in an evaluation of the run. Of an animation the first frame
counts. Files that are no images are named on stderr and left out; the exit code is then 2, although the others' classes
are printed.
"""

import concurrent.futures
import csv
import io
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from cmpe_jax.data import image, listing
from cmpe_jax.errors import UserError
from cmpe_jax.runtime import printing, start
from cmpe_jax.runtime.printing import aligned
from cmpe_jax.tools.shared import arguments
from cmpe_jax.training import trained

Prediction = dict[str, Any]


def find(paths: Sequence[str]) -> list[pathlib.Path]:
  """The files given, and those below the folders given whose suffix is one of Pillow's; hidden ones are left out.

  Raises:
    UserError: a path that does not exist, a folder without images.
  """
  found = []
  for path in map(pathlib.Path, paths):
    if not path.exists():
      raise UserError(f'{str(path)!r} does not exist: give an image file or a folder of them.')
    inside = [path]
    if path.is_dir():
      inside = [pathlib.Path(name) for name in listing.images(path)]
      if not inside:
        raise UserError(f'folder {str(path)!r} holds no files with a suffix of an image format, such as .jpg or .png.')
    found += inside
  return found


def predict(
  run: trained.Trained, files: Sequence[pathlib.Path], top: int = 5, batch_size: int = 64
) -> tuple[list[Prediction], dict[str, str]]:
  """The `top` most probable classes of each image.

  Returns:
    [{'file': ..., 'classes': [{'label': 3, 'name': '3', 'probability': 0.98}, ...], 'note': ''}, ...] in the order of
    `files`, and {file: reason} of those that are not readable.
  """
  skipped: dict[str, str] = {}
  results = []
  top, size = min(top, run.dataset.num_classes), min(batch_size, len(files))
  call = jax.jit(lambda variables, images: jax.lax.top_k(jax.nn.softmax(run.logits(variables, images)), top))
  for files_read, images in _batches(run, files, size, skipped):
    padded = np.concatenate([images, np.zeros((size - len(images), *images.shape[1:]), np.uint8)])
    probabilities, labels = map(np.asarray, call(run.variables, padded))
    for (name, note), row, chosen in zip(files_read, probabilities, labels, strict=False):
      classes = [
        {'label': int(label), 'name': run.names[label], 'probability': float(probability)}
        for label, probability in zip(chosen, row, strict=True)
      ]
      results.append({'file': name, 'classes': classes, 'note': note})
  return results, skipped


def _batches(
  run: trained.Trained, files: Sequence[pathlib.Path], size: int, skipped: dict[str, str]
) -> Iterator[tuple[list[tuple[str, str]], np.ndarray]]:
  """(names and notes, uint8[n, H, W, 3]) of at most `size` readable images; fills `skipped`."""

  def prepare(path: pathlib.Path) -> tuple[np.ndarray, str] | UserError:
    try:
      data = arguments.read(path)
      return run.square(data, str(path)), note(data, run.dataset.image_size, str(path))
    except UserError as error:
      return error

  with concurrent.futures.ThreadPoolExecutor() as pool:
    for first in range(0, len(files), size):
      part = files[first : first + size]
      kept, images = [], []
      for name, prepared in zip(map(str, part), pool.map(prepare, part), strict=True):
        if isinstance(prepared, UserError):
          skipped[name] = str(prepared)
        else:
          images.append(prepared[0])
          kept.append((name, prepared[1]))
      if kept:
        yield kept, np.stack(images)


def note(data: bytes, size: int, name: str) -> str:
  """What a reader should know of an image: that it moves, or is smaller than the network's `size`; or ''.

  Raises:
    UserError: a frame that is not there: the file is cut off.
  """
  width, height, frames = image.facts(data, name)
  notes = [f'first of {frames} frames'] if frames > 1 else []
  notes += [f'{width}x{height} pixels enlarged'] if min(width, height) < size else []
  return ', '.join(notes)


def as_table(results: Sequence[Prediction]) -> str:
  """One row an image: its file, 'name 98.1%' of each class, and the note."""
  rows = [
    [result['file'], *(f'{entry["name"]} {entry["probability"]:.1%}' for entry in result['classes']), result['note']]
    for result in results
  ]
  rows.insert(0, ['file', *(f'{rank}.' for rank in range(1, len(rows[0]) - 1)), ''])
  return aligned(rows, left=None)


def as_csv(results: Sequence[Prediction]) -> str:
  """One line a class of an image: file, rank, label, name, probability, note."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(['file', 'rank', 'label', 'name', 'probability', 'note'])
  for result in results:
    for rank, entry in enumerate(result['classes'], 1):
      writer.writerow(
        [result['file'], rank, entry['label'], entry['name'], f'{entry["probability"]:.6g}', result['note']]
      )
  return text.getvalue().rstrip('\n')


def as_json(results: Sequence[Prediction]) -> str:
  """What `predict` returns."""
  return json.dumps(results, indent=2, ensure_ascii=False)


FORMATS: dict[str, Callable[[Sequence[Prediction]], str]] = {'table': as_table, 'csv': as_csv, 'json': as_json}


def main(argv: Sequence[str]) -> None:
  """The command; `argv` without the program's name.

  Raises:
    UserError: nothing to read, or not all of it readable (after the predictions of the others are printed).
  """
  parser = arguments.parser('predict', __doc__)
  parser.add_argument('paths', nargs='+', metavar='FILE_OR_FOLDER', help='images, and folders of images at any depth')
  parser.add_argument('--top', type=arguments.positive, default=5, help='classes an image (default: 5)')
  parser.add_argument('--format', choices=FORMATS, default='table', help='of the output (default: table)')
  parser.add_argument('--batch_size', type=arguments.positive, default=64, help='images at a time (default: 64)')
  options = parser.parse_args(argv)
  start.jax()
  files = find(options.paths)
  results, skipped = predict(arguments.network(options), files, options.top, options.batch_size)
  if results:
    printing.line(FORMATS[options.format](results))
  for reason in skipped.values():
    printing.line(f'skipped: {reason}', sys.stderr)
  if skipped:
    raise UserError(f'{len(skipped)} of {len(files)} files were skipped because they are not readable images.')
