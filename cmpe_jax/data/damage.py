"""What is said of a prepared dataset that cannot be read: its name, the file if it is known, the command that helps."""

import contextlib
import errno
import pathlib
from collections.abc import Iterator

import tensorflow_datasets as tfds

from cmpe_jax.errors import UserError

# Not the data's fault: removing them would not help.
_OUTER = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ENOSPC)


class Damaged(UserError):
  """A prepared dataset that is not what it was."""

  def __init__(self, directory: pathlib.Path, why: str):
    """`why`: what is wrong with which file."""
    super().__init__(f'the prepared dataset {directory.parent.name!r} is damaged: {why}. {cure(directory)}')
    self.why = why


def command(directory: pathlib.Path) -> str:
  """The command that prepares the dataset in ROOT/NAME/VERSION."""
  root, stored = directory.parent.parent, directory.parent.name
  name, _, side = stored.rpartition('_')
  option = f'--dataset={name} --shorter_side={side}' if side.isdigit() else f'--dataset={stored}'
  option += '' if root == pathlib.Path(tfds.core.constants.DATA_DIR).expanduser() else f' --data_dir={root}'
  return f'python -m cmpe_jax.data.prepare {option}'


def cure(directory: pathlib.Path) -> str:
  """What to do about a damaged dataset: a sentence with the command."""
  return f'Remove {str(directory)!r} and run: {command(directory)}'


@contextlib.contextmanager
def named(directory: pathlib.Path, what: str) -> Iterator[None]:
  """Whatever TFDS, ArrayRecord or protobuf raise while `what` is read becomes a `UserError`."""
  try:
    yield
  except UserError:
    raise
  except Exception as raised:
    first = next(iter(str(raised).splitlines()), '') or type(raised).__name__
    if isinstance(raised, OSError) and raised.errno in _OUTER:
      raise UserError(
        f'{what} of dataset {directory.parent.name!r} in {str(directory)!r} cannot be read ({raised.strerror}).'
      ) from raised
    raise Damaged(directory, f'{what} cannot be read ({first.rstrip(".")})') from raised
