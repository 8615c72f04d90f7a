"""Checks all files of results, puts those of one recipe together, and draws the page."""

import pathlib

from absl import flags

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import files
from cmpe_jax.tools.board import gathered, page


def main() -> None:
  """The command."""
  folder, output = pathlib.Path(flags.FLAGS.results), pathlib.Path(flags.FLAGS.output)
  if not folder.is_dir():
    raise UserError(f'--results={folder} is not a folder: give the one that holds the files that compare wrote.')
  found = gathered.gather(sorted(folder.glob('*.json')))
  files.write(output, page.page(found), 'output')
  runs = sum(len(seeds) for each in found for seeds in each.runs.values())
  print(f'{runs} runs of {len(found)} recipes in {folder}: {output}')
