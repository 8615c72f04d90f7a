"""`python -m cmpe_jax.tools.convert gluon|timm FILE --config=configs/X.py --workdir=DIR`."""

import sys

from absl import flags

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import command

USAGE = 'Usage: python -m cmpe_jax.tools.convert gluon|timm FILE --config=configs/X.py --workdir=DIR'


def main(argv: list[str]) -> int:
  """The command; returns the exit code."""
  positional = [argument for argument in argv[1:3] if not argument.startswith('-')]

  def body() -> None:
    if len(positional) < 2 or flags.FLAGS.config is None or flags.FLAGS.workdir is None:
      raise UserError(f'a kind, a file, --config and --workdir are needed. {USAGE}')
    from cmpe_jax.tools.convert import command as convert

    convert.main(positional[0], positional[1], flags.FLAGS.config, flags.FLAGS.workdir)

  return command.run(body, [argv[0], *argv[1 + len(positional) :]])


if __name__ == '__main__':
  command.config_flag()
  flags.DEFINE_string('workdir', None, 'Where the checkpoint is written; it must not have one yet.')
  sys.exit(main(sys.argv))
