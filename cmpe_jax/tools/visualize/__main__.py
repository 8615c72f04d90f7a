"""`python -m cmpe_jax.tools.visualize --workdir=runs/digits [IMAGE...]`."""

import sys

from cmpe_jax.runtime import command


def main() -> None:
  """The command."""
  from cmpe_jax.tools.visualize import command as visualize

  visualize.main(sys.argv[1:])


if __name__ == '__main__':
  sys.exit(command.run(main, sys.argv[:1]))
