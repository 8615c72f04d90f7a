"""Lost peers: what XLA and JAX say and do when another process dies, told apart from faults of this one.

With jaxlib 0.10.2 an idle process is aborted by JAX's coordination client, and one in a computation gets "UNKNOWN:
Gloo all-reduce failed: ... Connection closed by peer" or "... reset by peer" (the tests kill processes to see that). As
people report, NCCL says "remote process exited or there was a network error" and "unhandled system error", and a TPU
that it "halted unexpectedly". What the compiler refuses (INVALID_ARGUMENT, UNIMPLEMENTED, NOT_FOUND, INTERNAL) would be
refused again.
"""

import ctypes
import os
import re
import signal
import threading
from collections.abc import Callable
from typing import Any

LOST = (
  b'lost contact with another process: it has died, or its machine has. This one ends too (exit code 75); '
  b'the same command goes on from what was saved.\n'
)
FAULT = b'aborted by a fault in native code of this process (above); the other processes are there.\n'
STATUSES = r'(UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED)\b'
WORDS = (
  r'Gloo [\w\s-]+ failed|(closed|reset) by peer|Socket closed|Broken pipe|CoordinationServiceError|heartbeat|'
  r'remote process exited|NCCL.*unhandled system error|halted unexpectedly'
)
ANSWER = 3  # seconds; a coordination client without an error answers at once
_code: int | None = None


def is_lost(message: str) -> bool:
  """Whether a computation's error is one that it has when another process or the network has failed."""
  return bool(re.match(STATUSES, message) or re.search(WORDS, message, re.IGNORECASE))


def ends_with(code: int) -> None:
  """Says that this process is about to end with an exit code of its own."""
  global _code
  _code = code


def end_when_alone(client: Callable[[], Any]) -> None:
  """JAX aborts a process whose peers are gone. Turns that abort into a sentence and exit code 75.

  A process that ends by itself keeps its own code (`ends_with`): JAX aborts it too, when the others do not follow. Any
  other abort stays one (SIGABRT). JAX would call a function of ours in place of aborting, but cannot hand it the status
  ("std::bad_cast" in 0.10.2), so that `client`, which gives JAX's coordination client, is asked.
  """

  def ended(number: int) -> None:
    if _code is not None:
      os._exit(_code)
    if _answers(client):
      os.write(2, FAULT)
      leave_aborts()  # abort() goes on when this returns
      return
    os.write(2, LOST)
    os._exit(75)

  end_when_alone.handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(ended)  # type: ignore[attr-defined]  # kept alive
  ctypes.CDLL(None).signal(signal.SIGABRT, end_when_alone.handler)  # type: ignore[attr-defined]


def leave_aborts() -> None:
  """Takes `end_when_alone` back: an abort ends this process as the system has it."""
  ctypes.CDLL(None).signal(signal.SIGABRT, 0)  # SIG_DFL


def _answers(client: Callable[[], Any]) -> bool:
  """Whether the coordination client is in order: then it waits at a barrier to which nobody else comes.

  Before there is a client no peer can have been lost. In error it refuses; while it aborts this process it holds its
  own lock, and does not answer at all.
  """
  if client() is None:
    return True
  said: list[str] = []

  def ask() -> None:
    try:
      client().wait_at_barrier(f'cmpe_jax/alive/{os.getpid()}', 200)
    except Exception as error:
      said.append(str(error))

  asking = threading.Thread(target=ask, daemon=True)
  asking.start()
  asking.join(ANSWER)
  return bool(said) and said[0].startswith('DEADLINE_EXCEEDED: Barrier timed out')
