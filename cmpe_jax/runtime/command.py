"""How every `python -m cmpe_jax...` ends: 0 done, 75 interrupted and resumable, 2 wrong input, 1 anything else."""

import difflib
import errno
import io
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Sequence

import ml_collections
from absl import app, flags
from ml_collections.config_flags import config_flags

from cmpe_jax import keys
from cmpe_jax.config import find
from cmpe_jax.errors import Interrupted, UserError, chain
from cmpe_jax.runtime import peers, printing, start, watch
from cmpe_jax.runtime.watch import AGAIN

DONE, OTHER, WRONG, RESUMABLE = 0, 1, 2, 75
MEMORY = "Lower batch_size, set remat=True, raise accumulate_steps, use dtype='bfloat16', or more devices."
# What only a person can change: rights, a file where a folder is wanted or the other way round, names.
_RIGHTS = (errno.EACCES, errno.EPERM, errno.EROFS)
REFUSED = (*_RIGHTS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)


def run(body: Callable[[], object], argv: Sequence[str] | None = None) -> int:
  """Parses flags, calls `body()`, and returns the exit code; a person's error is one sentence without a traceback.

  A command's module imports nothing heavy: `body` does, so that a wrong flag is an instant answer, and so that what has
  to precede NumPy's and JAX's threads does. Memory that does not suffice is a wrong input too: the same command would
  fail again. A body that judges by itself returns an exit code, an `int`.
  """
  start.before_imports()
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='backslashreplace')  # names of files need not be text
  code = OTHER
  with watch.begin():
    try:
      code = _run(body, list(sys.argv if argv is None else argv))
    except Exception as error:
      if not watch.told():
        raise
      if not any(isinstance(part, Interrupted | KeyboardInterrupt) for part in chain(error)):
        # No signal's exception that code turned into something else: it may be what keeps every start from saving.
        traceback.print_exc()
      code = _interrupted()
    finally:
      if code:
        peers.ends_with(code)
    watch.close(code)
  return code


def _run(body: Callable[[], object], argv: list[str]) -> int:
  try:
    parse(argv)
    ended = body()
    return ended if isinstance(ended, int) else DONE
  except UserError as error:
    return _end(WRONG, f'error: {error}')
  except Interrupted as error:
    return _end(RESUMABLE, str(error))
  except KeyboardInterrupt:
    return _interrupted()
  except RuntimeError as error:
    first = (str(error) or type(error).__name__).splitlines()[0]
    if 'RESOURCE_EXHAUSTED' in str(error):
      return _end(WRONG, f'error: the device is out of memory ({first}). {MEMORY}')
    if type(error).__name__ == 'JaxRuntimeError' and _is_one_of_several() and peers.is_lost(str(error)):
      return _end(RESUMABLE, f'a computation over all processes failed, as when one of them ends ({first}). {AGAIN}')
    return _of_storage(error)
  except TimeoutError as error:
    return _of_waiting(error) if _is_one_of_several() else _of_storage(error)
  except Exception as error:
    return _of_storage(error)


def _interrupted() -> int:
  code = _end(RESUMABLE, watch.TOLD)
  watch.end_together(code)
  return code


def _of_waiting(error: TimeoutError) -> int:
  """The end of one of several processes that waited in vain, as Orbax does for all to have saved, while it closes too.

  What went wrong before that, in this process, is the reason and decides.
  """
  for part in chain(error):
    if isinstance(part, UserError):
      return _end(WRONG, f'error: {part}')
    if isinstance(part, Interrupted | KeyboardInterrupt):
      return _end(RESUMABLE, f'{str(part) or "interrupted."} {AGAIN}')
    if not isinstance(part, OSError) and type(part).__name__ != 'JaxRuntimeError':
      raise error  # a fault of the program
  try:
    return _of_storage(error)
  except TimeoutError:
    return _end(RESUMABLE, f'a process did not come, as when it has ended ({error}). {AGAIN}')


def _of_storage(error: Exception) -> int:
  """The end of a command whose storage failed. Raises `error` again if it is of another kind."""
  from cmpe_jax.runtime import places  # late: flag errors need nothing of it

  explained = places.explain(error)
  if explained is None and isinstance(error, OSError) and error.errno in REFUSED and error.filename:
    explained = UserError(f'{error.filename}: {error.strerror}. Give another path, or the rights to it.')
  if explained is None:
    raise error
  if isinstance(explained, UserError):
    return _end(WRONG, f'error: {explained}')
  return _end(RESUMABLE, f'{explained} {AGAIN}')


def _is_one_of_several() -> bool:
  return sys.modules['jax'].process_count() > 1


def parse(argv: list[str]) -> None:
  """Parses absl flags. Raises `UserError` for a wrong flag, a missing or broken config file, an unknown config key."""
  if not {'--help', '-h', '--helpfull'}.isdisjoint(argv):
    app.define_help_flags()
    app.usage(writeto_stdout=True)
    raise SystemExit(DONE)
  try:
    rest = flags.FLAGS([_with_file(argument) for argument in argv])
    for name in flags.FLAGS:
      value = flags.FLAGS[name].value
      if config_flags.is_config_flag(flags.FLAGS[name]) and value is not None:
        value.keys()  # a file that could not be read complains only now
  except UserError:
    raise
  except flags.Error as error:
    raise UserError(str(error)) from error
  except (AttributeError, KeyError) as error:
    raise UserError(_unknown_key(argv, error)) from error
  except (OSError, TypeError, ValueError, SyntaxError, ImportError, NameError) as error:
    raise UserError(f'--config: {_last_line(error)}.') from error
  if rest[1:]:
    raise UserError(f'{rest[1]!r} is not a flag: every argument has the form --name=value.')


def _with_file(argument: str) -> str:
  """'--config=digits' -> '--config=configs/digits.py', wherever that lies."""
  match = re.fullmatch(r'(--?config=)([^:]+)(:.*)?', argument)
  return f'{match[1]}{find(match[2])}{match[3] or ""}' if match else argument


def _unknown_key(argv: list[str], error: Exception) -> str:
  """'learning_rat' -> a sentence with the keys that look like it."""
  for argument in argv:
    match = re.match(r'--(?:no)?config\.([^=]+)', argument)
    if match and match[1] not in keys.ALL:
      near = difflib.get_close_matches(match[1], keys.ALL, n=3)
      hint = f' Did you mean {" or ".join(near)}?' if near else ' The keys are in cmpe_jax/keys.py.'
      return f'--config.{match[1]}: no such key.{hint}'
  return _last_line(error)


def _last_line(error: Exception) -> str:
  lines = [line.strip() for line in str(error.__cause__ or error).strip().splitlines() if line.strip()]
  return lines[-1] if lines else type(error).__name__


def _end(code: int, message: str) -> int:
  printing.line(message, sys.stderr)
  return code


def config_flag(name: str = 'config') -> flags.FlagHolder:
  """Defines --config=configs/NAME.py (or NAME) with overrides such as --config.model.gate=se."""
  return config_flags.DEFINE_config_file(name, None, 'The configuration, and --config.KEY=VALUE to override a key.')


def processes_flags() -> None:
  """Defines the three flags that say of which processes this one is."""
  flags.DEFINE_string('coordinator_address', None, 'HOST:PORT of process 0, if several processes train.')
  flags.DEFINE_integer('num_processes', None, 'How many; TPU slices and Slurm steps need none of the three.')
  flags.DEFINE_integer('process_id', None, 'Which one this is, from 0.')


def given_config(example: str, name: str = 'config') -> ml_collections.ConfigDict:
  """What --config gave. Raises `UserError`, naming the file `example`, if it was left out."""
  config = flags.FLAGS[name].value
  if config is None:
    raise UserError(f'--{name} is missing: give a configuration file, such as --{name}={example}.')
  return config


def config_name(name: str = 'config') -> str:
  """'configs/digits.py' gives 'digits'."""
  return pathlib.Path(config_flags.get_config_filename(flags.FLAGS[name]).split(':')[0]).stem


def given_processes() -> tuple[str | None, int | None, int | None]:
  """What `processes_flags` gave, as `processes.start` takes it."""
  return flags.FLAGS.coordinator_address, flags.FLAGS.num_processes, flags.FLAGS.process_id


def given_workdir() -> str:
  """What --workdir gave, or runs/NAME for configs/NAME.py."""
  return flags.FLAGS.workdir or f'runs/{config_name()}'
