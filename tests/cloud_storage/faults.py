"""Faults that a test orders in advance, and the list of what was asked."""

import dataclasses
import re
import threading

STATUSES = {
  401: ('authError', 'Invalid Credentials'),
  403: ('forbidden', 'The caller does not have permission. Permission denied on resource (or it may not exist).'),
  404: ('notFound', 'Not Found'),
  408: ('requestTimeout', 'Request Timeout'),
  412: ('conditionNotMet', 'At least one of the pre-conditions you specified did not hold.'),
  429: ('rateLimitExceeded', 'The object exceeded the rate limit for object mutation operations.'),
  500: ('backendError', 'We encountered an internal error. Please try again.'),
  502: ('backendError', 'Bad Gateway'),
  503: ('backendError', 'We encountered an internal error. Please try again.'),
  504: ('backendError', 'Gateway Timeout'),
}
CUTS = ('cut', 'lost', 'hang')


@dataclasses.dataclass
class Fault:
  """The next `times` requests that match get this instead of their answer.

  `kind`: an HTTP status; 'cut': the connection ends in the middle of the answer's body, or, where something is sent,
  before anything is done with it; 'lost': the request is carried out, but its answer is lost; 'hang': nothing for
  `seconds`, then the answer. `after`: so many matching requests pass first.
  """

  kind: int | str
  method: str = '.*'
  path: str = '.*'
  times: int = 1
  after: int = 0
  seconds: float = 0.0

  def __post_init__(self):
    if self.kind not in STATUSES and self.kind not in CUTS:
      raise ValueError(f'kind={self.kind!r} is not one of {[*STATUSES, *CUTS]}')

  def matches(self, method: str, path: str) -> bool:
    """Both are regular expressions: the whole method, any part of the path with its query."""
    return bool(re.fullmatch(self.method, method) and re.search(self.path, path))


@dataclasses.dataclass
class Request:
  """One that came: what was asked, what was answered, and the fault that it met, if any."""

  method: str
  path: str
  agent: str
  token: str
  status: int = 0
  fault: int | str | None = None


class Faults:
  """The orders, and the requests since the last `clear`."""

  def __init__(self):
    self._lock = threading.Lock()
    self._orders: list[Fault] = []
    self._requests: list[Request] = []
    self._denied: dict[str, frozenset[str]] = {}

  def order(self, kind: int | str, method: str = '.*', path: str = '.*', **options) -> Fault:
    """Orders a `Fault`; what is still to come of it is in its `times`."""
    fault = Fault(kind, method, path, **options)
    with self._lock:
      self._orders.append(fault)
    return fault

  def deny(self, bucket: str, *permissions: str) -> None:
    """From now on the bucket's clients lack these permissions, such as 'storage.buckets.get'; none gives all back."""
    self._denied[bucket] = frozenset(permissions)

  def denied(self, bucket: str, permission: str) -> bool:
    """Whether the bucket's clients lack a permission."""
    return permission in self._denied.get(bucket, ())

  def clear(self) -> None:
    """Withdraws all orders and forgets all requests."""
    with self._lock:
      self._orders.clear()
      self._requests.clear()

  def meet(self, request: Request) -> Fault | None:
    """Notes a request; returns the fault that it meets."""
    with self._lock:
      self._requests.append(request)
      for fault in self._orders:
        if fault.times and fault.matches(request.method, request.path):
          if fault.after:
            fault.after -= 1
            continue
          fault.times -= 1
          request.fault = fault.kind
          return fault
    return None

  def requests(self, method: str = '.*', path: str = '.*') -> list[Request]:
    """Those that match, in order."""
    pattern = Fault('cut', method, path)
    with self._lock:
      return [request for request in self._requests if pattern.matches(request.method, request.path)]
