"""The Hugging Face Hub, where weights are kept for others. Nothing else imports huggingface_hub, which is optional."""

import pathlib
import re
from collections.abc import Sequence

import cmpe_jax
from cmpe_jax.errors import Interrupted, UserError

PASSING = {408, 429, 500, 502, 503, 504}  # HTTP statuses of a service that may answer the next time
CLIENTS = ('httpx', 'httpx2', 'httpcore', 'requests', 'urllib3')  # whose errors are those of a connection


def is_name(text: str) -> bool:
  """Whether a text has the form USER/NAME or USER/NAME@REVISION."""
  return re.fullmatch(r'[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?', text) is not None


def download(name: str, files: Sequence[str]) -> pathlib.Path:
  """The folder with these files of USER/NAME or USER/NAME@REVISION, all of one commit, in the Hub's own cache.

  A file appears there under its name only when it is complete. Where the Hub cannot be reached, what was downloaded
  before is taken.

  Raises:
    UserError: huggingface_hub is missing; there is no such model or revision, or this account may not have it.
    Interrupted: the Hub did not answer, or the connection broke.
  """
  try:
    import huggingface_hub as library
    from huggingface_hub import errors
  except ImportError as error:
    raise UserError(
      f'{name!r} is no folder here, and to look for it on the Hugging Face Hub huggingface_hub is needed: '
      'pip install huggingface_hub'
    ) from error
  repository, _, revision = name.partition('@')
  try:
    folder = library.snapshot_download(
      repository,
      revision=revision or None,
      allow_patterns=list(files),
      library_name='cmpe_jax',
      library_version=cmpe_jax.__version__,
    )
  except errors.GatedRepoError as error:  # one of the next kind too
    raise UserError(f'{name!r} is gated: accept its terms on its page, then log in with `hf auth login`.') from error
  except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
    raise _unknown(name) from error
  except errors.RevisionNotFoundError as error:
    raise UserError(f'{repository!r} has no revision {revision!r}: leave it out for the newest one.') from error
  except Exception as error:
    explained = _explained(name, error)
    if explained is None:  # a fault of the program
      raise
    raise explained from error
  return pathlib.Path(folder)


def _unknown(name: str) -> UserError:
  return UserError(
    f'{name!r} is neither a folder here nor a model on the Hugging Face Hub that this account may see: check the name, '
    'or log in with `hf auth login`.'
  )


def _explained(name: str, error: Exception) -> UserError | Interrupted | None:
  """What a failed download means: wrong, or passing; None: neither."""
  from huggingface_hub import errors

  is_late = isinstance(error, errors.LocalEntryNotFoundError)  # what was kept would have done
  cause = error.__cause__ if is_late and error.__cause__ else error
  said = ' '.join(str(cause).split())[:200] or type(cause).__name__
  status = getattr(getattr(cause, 'response', None), 'status_code', None)
  if isinstance(cause, errors.OfflineModeIsEnabled):
    return UserError(f'{name!r} was not downloaded before, and HF_HUB_OFFLINE is set: unset it.')
  if status in PASSING:
    return Interrupted(f'{name!r} is no folder here, and the Hugging Face Hub answered with {status}: try again.')
  if status == 401:  # what an account is told that may not know whether there is such a model
    return _unknown(name)
  if status is not None:
    return UserError(f'the Hugging Face Hub refuses {name!r} ({status}): log in with `hf auth login`, or set HF_TOKEN.')
  if isinstance(cause, (errors.FileMetadataError, ValueError, LookupError, TypeError)):
    return UserError(f'what answers for {name!r} is not the Hugging Face Hub ({said}): check HF_ENDPOINT and proxies.')
  if isinstance(cause, OSError) and cause.errno is not None:
    return UserError(f'{name!r} cannot be kept ({cause.strerror}): make room, or set HF_HOME to another folder.')
  if isinstance(cause, OSError) or type(cause).__module__.partition('.')[0] in CLIENTS:
    return Interrupted(f'{name!r} is no folder here, and the Hugging Face Hub was not reached ({said}): try again.')
  return None
