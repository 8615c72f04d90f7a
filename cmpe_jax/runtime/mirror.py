"""Copies of a growing folder in a bucket, whose objects cannot be appended to, in a way that never holds up a run."""

import concurrent.futures
import pathlib
import sys
import time

from etils import epath

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import places
from cmpe_jax.runtime.printing import line


class Mirror:
  """Sends the files of a local folder that have changed, in the background, now and then.

  A failure that may pass is only told: the next time sends everything that is still missing. One that will not pass
  (the service refuses) is raised by the next call.
  """

  PERIOD = 30.0  # seconds; the service takes one change a second of an object

  def __init__(self, local: pathlib.Path, target: epath.Path):
    self._local, self._target = local, target
    self._sent: dict[str, int] = {}
    self._last = time.monotonic()
    self._thread = concurrent.futures.ThreadPoolExecutor(1)
    self._sending: list[concurrent.futures.Future[None]] = []  # the one under way, and one that waits for it

  def due(self) -> bool:
    """Whether `PERIOD` has passed since the last time."""
    return time.monotonic() - self._last > self.PERIOD

  def send(self) -> None:
    """Begins to send what the bucket has not got; what is new since a sending under way began, after that.

    Raises what will not pass.
    """
    done = [sending for sending in self._sending if sending.done()]
    self._sending = [sending for sending in self._sending if sending not in done]
    for sending in done:
      error = sending.exception()
      if error is not None:
        if isinstance(places.explain(error), UserError):
          raise error
        line(f'{self._target} could not be written ({error}); it is tried again', sys.stderr)
    self._last = time.monotonic()
    if all(sending.running() or sending.done() for sending in self._sending):  # else the one that waits sends it too
      self._sending.append(self._thread.submit(self._copy))

  def wait(self) -> None:
    """Returns when what `send` has begun has ended, well or not."""
    concurrent.futures.wait(self._sending)

  def close(self) -> None:
    """Sends the rest and waits. Raises whatever prevents that."""
    try:
      self._thread.submit(self._copy).result()
    finally:
      self._thread.shutdown()

  def _copy(self) -> None:
    for file in sorted(self._local.rglob('*')):
      if file.is_file():
        name, content = file.relative_to(self._local).as_posix(), file.read_bytes()
        if self._sent.get(name) != len(content):  # they only grow
          (self._target / name).write_bytes(content)  # an object is written whole or not at all
          self._sent[name] = len(content)
