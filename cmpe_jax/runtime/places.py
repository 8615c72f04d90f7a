"""Where a run writes: a folder or a bucket, and what it means when that fails.

Libraries retry by themselves (gcsfs for half a minute, TensorStore for longer): what arrives here has been tried again.
"""

import contextlib
import errno

from etils import epath

from cmpe_jax.errors import Interrupted, UserError, chain

ROLES = 'roles/storage.objectUser and roles/storage.legacyBucketReader'
FULL = {errno.ENOSPC, errno.EDQUOT}
# A service that may answer the next time: HTTP statuses, TensorStore's words for them, and exceptions of the clients.
PASSING = {408, 429, 500, 502, 503, 504}
PASSING_WORDS = ('UNAVAILABLE', 'DEADLINE_EXCEEDED', 'ABORTED', 'UNKNOWN', 'INTERNAL')
PASSING_PACKAGES = ('aiohttp', 'requests', 'google', 'fsspec', 'urllib3')
PASSING_NAMES = {
  'ClientError',
  'ConnectionError',
  'Timeout',
  'RetryError',
  'ServerError',
  'TooManyRequests',
  'FSTimeoutError',
}


def is_bucket(path: object) -> bool:
  """Whether a path is a URL, such as gs://..., rather than a file's."""
  return '://' in str(path)


def place(path: str) -> epath.Path:
  """The path with ~ replaced and, unless it is a bucket's, from the root: epath takes gs:// for a relative one."""
  if not is_bucket(path):
    return epath.Path(path).expanduser().absolute()
  with contextlib.suppress(ImportError):  # `check_bucket` says so
    import fsspec

    # Else gcsfs remembers listings: what TensorStore or another process writes afterwards does not exist for it.
    fsspec.config.conf.setdefault('gcs', {})['use_listings_cache'] = False
  return epath.Path(path)


def check_bucket(path: epath.Path) -> None:
  """Asks for the bucket of gs://BUCKET/..., as Orbax does before it removes a checkpoint; nothing for other paths.

  Raises:
    UserError: it is not there, it may not be asked for, or what is needed to ask is missing.
  """
  if not str(path).startswith('gs://'):
    return
  bucket = str(path).removeprefix('gs://').split('/')[0]
  try:
    import gcsfs  # noqa: F401
    from google.api_core import exceptions
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import storage
  except ImportError as error:
    raise UserError(f'{path} is in a bucket, which needs {error.name}: pip install gcsfs') from error
  try:
    storage.Client().get_bucket(bucket)
  except exceptions.NotFound as error:
    raise UserError(f'the bucket gs://{bucket} does not exist: make it, or give another --workdir.') from error
  except exceptions.Forbidden as error:
    raise UserError(
      f'the bucket gs://{bucket} may not be asked for (storage.buckets.get), as every checkpoint does: '
      f'give this account {ROLES} on it.'
    ) from error
  except DefaultCredentialsError as error:
    raise UserError(f'gs://{bucket} needs credentials: gcloud auth application-default login') from error


def explain(error: BaseException) -> UserError | Interrupted | None:
  """What a failure to read or write means: wrong (refused, full), or passing; None: it is no failure of a storage."""
  for part in chain(error):
    text = ' '.join((str(part) or type(part).__name__).split())[:300]
    if (isinstance(part, OSError) and part.errno in FULL) or 'No space left on device' in str(part):
      named = f' ({part.filename})' if isinstance(part, OSError) and part.filename else ''
      return UserError(
        f'the disk of the workdir, or of temporary files, is full{named}: make room; earlier checkpoints are kept, and '
        'the same command goes on from the last one.'
      )
    if _is_denied(part):
      return UserError(f'the storage refuses ({text}): give this account {ROLES} on the bucket.')
    if _passes(part):
      return Interrupted(f'the storage did not answer ({text}).')
  return None


def _is_denied(error: BaseException) -> bool:
  text, kind = str(error), type(error)
  if kind.__name__ == 'Forbidden' and kind.__module__.startswith('google'):
    return True
  if isinstance(error, ValueError):
    return text.startswith('PERMISSION_DENIED')
  return isinstance(error, OSError) and text.startswith('Forbidden')


def _passes(error: BaseException) -> bool:
  package = type(error).__module__.split('.')[0]
  code = str(getattr(error, 'code', ''))
  if package == 'gcsfs' and code.isdigit():
    return int(code) in PASSING
  if isinstance(error, ValueError) and str(error).startswith(PASSING_WORDS):
    return True
  return package in PASSING_PACKAGES and not PASSING_NAMES.isdisjoint(kind.__name__ for kind in type(error).__mro__)
