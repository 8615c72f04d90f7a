"""The arguments that several tools share: which network, how many, which files."""

import argparse
import pathlib

from cmpe_jax import names
from cmpe_jax.errors import UserError
from cmpe_jax.training import pretrained
from cmpe_jax.training.trained import Trained, from_pretrained, open_run


def parser(command: str, description: str | None, weights: str = 'pretrained') -> argparse.ArgumentParser:
  """A parser with the flags that say which network: --workdir and --checkpoint, or --`weights`."""
  made = argparse.ArgumentParser(
    prog=f'python -m cmpe_jax.tools.{command}', description=(description or '').split('\n')[0], allow_abbrev=False
  )
  which = made.add_mutually_exclusive_group(required=True)
  which.add_argument('--workdir', help='of a training run')
  listed = ', '.join(pretrained.names())
  which.add_argument(
    f'--{weights}',
    dest='pretrained',
    metavar='NAME',
    help=f'weights instead of a run: {listed}, a folder of them, or USER/NAME of the Hugging Face Hub',
  )
  made.add_argument('--checkpoint', choices=names.CHECKPOINTS, help='which one of the workdir (default: best)')
  return made


def network(options: argparse.Namespace, data_dir: str | None = None) -> Trained:
  """The network that the flags of `parser` name. `data_dir`: where prepared datasets lie, if not there.

  Raises:
    UserError: there is none.
    Interrupted: the Hub did not answer.
  """
  if options.workdir is not None:
    return open_run(options.workdir, options.checkpoint or 'best', data_dir)
  if options.checkpoint:
    raise UserError(f'--checkpoint={options.checkpoint} chooses one of a --workdir: leave it out.')
  return from_pretrained(options.pretrained, data_dir or '')


def positive(text: str) -> int:
  """The type of flags that count something."""
  value = int(text)
  if value < 1:
    raise argparse.ArgumentTypeError(f'{text} is not at least 1')
  return value


def read(path: pathlib.Path) -> bytes:
  """A file's bytes. Raises `UserError` if there are none to be had."""
  try:
    return path.read_bytes()
  except OSError as error:
    raise UserError(f'{path} cannot be read ({error.strerror}). Give the path of an image.') from error
