"""Weights from elsewhere: `python -m cmpe_jax.tools.convert gluon FILE.params --config=configs/X.py --workdir=DIR`.

`convert timm FILE` reads a state dict of timm or torchvision instead. Writes the checkpoint of step 0, which training goes on from and evaluation and the tools read.
"""

import sys
from collections.abc import Callable

from absl import flags

from cmpe_jax import command
from cmpe_jax.errors import UserError, check_choice
from cmpe_jax.tools.gluon import from_gluon
from cmpe_jax.tools.timm import from_timm

__all__ = ['from_gluon', 'from_timm', 'main']

READERS: dict[str, Callable[..., dict]] = {'gluon': from_gluon, 'timm': from_timm}
USAGE = 'Usage: python -m cmpe_jax.tools.convert gluon|timm FILE --config=configs/X.py --workdir=DIR'


def convert(kind: str, path: str, config, workdir: str) -> None:
  """Reads `path` into the network of `config` and writes it into `workdir` as step 0.

  Raises:
    UserError: unknown kind; a file that is not this network's; a workdir that has checkpoints or cannot be written.
  """
  from cmpe_jax import checkpoint
  from cmpe_jax import config as configs
  from cmpe_jax.data import datasets
  from cmpe_jax.state import count

  check_choice('the first argument', kind, tuple(READERS))
  configs.check(config)
  resolved = datasets.resolve(config)
  variables = READERS[kind](path, resolved.model)
  checkpoint.write_initial(workdir, resolved, variables)
  print(f'{path}: {count(variables["params"]):,} parameters -> {workdir}, step 0')


def main(argv: list[str]) -> int:
  """The command; returns the exit code."""
  positional = [argument for argument in argv[1:3] if not argument.startswith('-')]

  def body() -> None:
    if len(positional) < 2 or flags.FLAGS.config is None or flags.FLAGS.workdir is None:
      raise UserError(f'a kind, a file, --config and --workdir are needed. {USAGE}')
    kind, path = positional
    convert(kind, path, flags.FLAGS.config, flags.FLAGS.workdir)

  return command.run(body, [argv[0], *argv[1 + len(positional) :]])


if __name__ == '__main__':
  command.config_flag()
  flags.DEFINE_string('workdir', None, 'Where the checkpoint is written; it must not have one yet.')
  sys.exit(main(sys.argv))
