"""`python -m cmpe_jax.tools.predict --workdir=runs/digits FILE_OR_FOLDER...`."""

import sys

from cmpe_jax.runtime import command


def main() -> None:
  """The command."""
  from cmpe_jax.tools.predict import command as predict

  predict.main(sys.argv[1:])


if __name__ == '__main__':
  sys.exit(command.run(main, sys.argv[:1]))
