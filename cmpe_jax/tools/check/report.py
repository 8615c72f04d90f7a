"""The lines of a check: what each found, in all processes, and what that means for the exit code."""

import dataclasses
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import jax

from cmpe_jax.errors import Interrupted, UserError
from cmpe_jax.runtime import places, processes
from cmpe_jax.runtime.command import DONE, MEMORY, OTHER, RESUMABLE, WRONG
from cmpe_jax.runtime.printing import line, say

OK, FAILED, LEFT = 'ok', 'FAILED', 'not run'


@dataclasses.dataclass(frozen=True)
class Found:
  """What an action gave in one process.

  Attributes:
    code: the exit code that it would end with.
    text: the sentence of a failure.
    value: what `Report.check` returns and shares; anything that JSON holds.
  """

  code: int
  text: str
  value: Any = None


class Report:
  """Runs checks, prints a line for each (the first process only), and remembers what failed."""

  def __init__(self) -> None:
    self._failed: list[tuple[str, Found]] = []
    self._left: list[str] = []

  def check(
    self,
    name: str,
    action: Callable[[], Any],
    tell: Callable[[list[Any]], str],
    needs: Sequence[object] = (),
  ) -> bool:
    """Whether `action()` succeeded in all processes; it must end in each, with or without an error.

    Args:
      name: of the line.
      action: returns what JSON holds; its errors become the line's verdict.
      tell: the line, from the values of all processes; called in all of them, and may raise `UserError`.
      needs: what this check cannot do without: it is left out if one of them is false.
    """
    if not all(needs):
      self._left.append(name)
      _line(LEFT, name, 'it needs what failed above')
      return False
    shared = processes.share(f'check {name}', dataclasses.astuple(_run(action)))
    every = [Found(*found) for found in shared]
    failed = [(f'process {i}: ' if len(every) > 1 else '', found) for i, found in enumerate(every) if found.code]
    if not failed:
      told = _run(lambda: tell([found.value for found in every]))
      if not told.code:
        _line(OK, name, told.value)
        return True
      failed = [('', told)]
    self._failed += [(name, found) for _, found in failed]
    alike = len(failed) > 1 and len({found.text for _, found in failed}) == 1
    for who, found in failed[:1] if alike else failed:
      _line(FAILED, name, ('all processes: ' if alike and len(failed) == len(every) else who) + found.text)
    return False

  def end(self) -> int:
    """Prints the result; returns the exit code: what a person must fix comes before what may pass."""
    codes = {found.code for _, found in self._failed}
    if not codes:
      say('\nall good')
      return DONE
    names = ', '.join(dict.fromkeys(name for name, _ in self._failed))
    left = f'; not run: {", ".join(self._left)}' if self._left else ''
    say(f'\nfailed: {names}{left}')
    return next(code for code in (WRONG, OTHER, RESUMABLE) if code in codes)


def _line(verdict: str, name: str, text: str) -> None:
  say(f'{verdict:<9}{name:<15}' + text.replace('\n', '\n' + ' ' * 24))


def _run(action: Callable[[], Any]) -> Found:
  """What the action gave. An error that nobody foresaw, in one of several processes, is raised."""
  try:
    return Found(DONE, '', action())
  except UserError as error:
    return Found(WRONG, str(error))
  except Interrupted as error:
    return Found(RESUMABLE, str(error))
  except Exception as error:
    first = (str(error) or type(error).__name__).splitlines()[0]
    if 'RESOURCE_EXHAUSTED' in str(error):
      return Found(WRONG, f'the device is out of memory ({first}). {MEMORY}')
    explained = places.explain(error)
    if explained is not None:
      return Found(WRONG if isinstance(explained, UserError) else RESUMABLE, str(explained))
    if jax.process_count() > 1:  # the others may be inside a computation of all: they end when this one does
      line(f'process {jax.process_index()}: {type(error).__name__}: {first}', sys.stderr)
      raise
    traceback.print_exc()
    return Found(OTHER, f'{type(error).__name__}: {first}')
