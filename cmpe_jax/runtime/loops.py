"""An event loop that ends when all it began has ended.

When one of Orbax's many reads fails, it closes the loop at once; the others, in threads of TensorStore, then print
tracebacks about that, one each.
"""

import asyncio
import contextlib
import gc
import warnings
from collections.abc import Iterator


class _Patient(asyncio.SelectorEventLoop):
  def close(self) -> None:
    if not self.is_closed() and not self.is_running():
      left = asyncio.all_tasks(self)
      if left:
        self.run_until_complete(asyncio.wait(left))
    super().close()


@contextlib.contextmanager
def patient() -> Iterator[None]:
  """Event loops that are made inside wait for their tasks before they close."""
  before = asyncio.new_event_loop
  asyncio.new_event_loop = _Patient
  try:
    yield
  finally:
    asyncio.new_event_loop = before


def forget() -> None:
  """Frees reads that were never begun, which would complain when the interpreter ends."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', RuntimeWarning)
    gc.collect()
