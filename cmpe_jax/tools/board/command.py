"""Checks all files of results, puts those of one recipe together, and draws the page and README.md's first table."""

import json
import pathlib

from absl import flags

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import files, printing
from cmpe_jax.tools.board import front, gathered, page, pictures


def main() -> None:
  """The command."""
  folder, output = files.local(flags.FLAGS.results, 'results'), files.local(flags.FLAGS.output, 'output')
  if not folder.is_dir():
    raise UserError(f'--results={folder} is not a folder: give the one that holds the files that compare wrote.')
  found = gathered.gather(sorted(folder.glob('*.json')))
  drawn = [('output', output, page.page(found, hours(folder)))]
  if flags.FLAGS.readme:
    readme = files.local(flags.FLAGS.readme, 'readme')
    drawn.append(('readme', readme, front.replaced(_read(readme), found)))
  drawn += [('results', folder / pictures.name(each), pictures.svg(each)) for each in found if pictures.name(each)]
  for flag, path, text in drawn:
    files.write(path, text, flag)
  runs = sum(len(seeds) for each in found for seeds in each.runs.values())
  printing.line(f'{runs} runs of {len(found)} recipes in {folder}: {", ".join(str(path) for _, path, _ in drawn)}')


def hours(folder: pathlib.Path) -> dict[str, float]:
  """Of a run at its bounds, on one chip, by network: from the plans beside the results. Raises `UserError`: no plan."""
  found = {}
  for path in (folder / 'plans').glob('*.json'):
    try:
      found[path.stem] = float(json.loads(path.read_text())['run']['at']['1']['chip_hours'])
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise UserError(f'{path} is not what the plan writes: make it anew by `benchmarks/run.sh plans`.') from error
  return found


def _read(path: pathlib.Path) -> str:
  try:
    return path.read_text()
  except OSError as error:
    raise UserError(
      f"--readme={path} cannot be read ({error.strerror or error}): give this project's, or --readme= for none."
    ) from error
