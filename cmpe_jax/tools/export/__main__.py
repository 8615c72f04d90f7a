"""`python -m cmpe_jax.tools.export --workdir=runs/digits --output=DIR`."""

import sys

from cmpe_jax.runtime import command


def main() -> None:
  """The command."""
  from cmpe_jax.tools.export import command as export

  export.main(sys.argv[1:])


if __name__ == '__main__':
  sys.exit(command.run(main, sys.argv[:1]))
