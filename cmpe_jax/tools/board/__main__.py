"""`python -m cmpe_jax.tools.board`: checks the files in docs/results/ and draws docs/results.md from them.

The first table of README.md is drawn too.
"""

import sys

from absl import flags

from cmpe_jax.runtime import command


def main() -> None:
  """The command."""
  from cmpe_jax.tools.board import command as board

  board.main()


if __name__ == '__main__':
  flags.DEFINE_string('results', 'docs/results', 'The folder of the files that compare wrote.')
  flags.DEFINE_string('output', 'docs/results.md', 'The page that is drawn.')
  flags.DEFINE_string('readme', 'README.md', "The page whose first table is drawn; '': none.")
  sys.exit(command.run(main))
