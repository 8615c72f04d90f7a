"""Uploads: in one request, with their description in front, or piece by piece; and requests packed into one."""

import dataclasses
import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping

from cloud_storage.objects import Object, Refused, Store

PIECE = 256 * 1024  # all pieces but the last have a multiple of this


@dataclasses.dataclass
class Session:
  """An upload that comes piece by piece."""

  bucket: str
  name: str
  query: Mapping[str, str]
  content_type: str
  metadata: Mapping[str, str]
  data: bytearray = dataclasses.field(default_factory=bytearray)
  done: Object | None = None


class Uploads:
  """The uploads that have begun."""

  def __init__(self, store: Store):
    self._store, self._lock = store, threading.Lock()
    self._sessions: dict[str, Session] = {}

  def whole(self, bucket: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> Object:
    """uploadType=media or multipart: everything in one request."""
    kind, described = headers.get('content-type', ''), {}
    if query.get('uploadType') == 'multipart':
      described, kind, body = related(kind, body)
    name = described.get('name') or query.get('name', '')
    kind = described.get('contentType') or kind or 'application/octet-stream'
    return self._store.put(bucket, name, body, query, kind, described.get('metadata'))

  def begin(self, bucket: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> str:
    """uploadType=resumable: returns the name of the session."""
    described = json.loads(body or b'{}')
    name = described.get('name') or query.get('name', '')
    kind = described.get('contentType') or headers.get('x-upload-content-type') or 'application/octet-stream'
    self._store.bucket(bucket)
    token = secrets.token_hex(16)
    with self._lock:
      self._sessions[token] = Session(bucket, name, query, kind, described.get('metadata') or {})
    return token

  def piece(self, token: str, span: str, body: bytes) -> tuple[Object | None, int]:
    """Takes a piece, 'bytes FIRST-LAST/TOTAL', * for what is not known: the object if complete, and the size so far."""
    session = self._session(token)
    with self._lock:
      if session.done:
        return session.done, len(session.data)
      first, total = _span(span, len(body))
      held = len(session.data)
      if first is not None:
        if first > held:
          raise Refused(503, 'backendError', f'The piece begins at {first}, but only {held} bytes are here.')
        session.data[first:] = body
        if total is None and len(session.data) % PIECE:
          raise Refused(400, 'invalid', f'A piece that is not the last must have a multiple of {PIECE} bytes.')
      if total is not None and len(session.data) == total:
        session.done = self._store.put(
          session.bucket, session.name, bytes(session.data), session.query, session.content_type, session.metadata
        )
      return session.done, len(session.data)

  def cancel(self, token: str) -> None:
    """Forgets a session."""
    self._session(token)
    with self._lock:
      self._sessions.pop(token, None)

  def name(self, token: str) -> str:
    """What a session uploads; '' if there is no such session."""
    with self._lock:
      return self._sessions[token].name if token in self._sessions else ''

  def _session(self, token: str) -> Session:
    with self._lock:
      if token not in self._sessions:
        raise Refused(404, 'notFound', 'No such upload session.')
      return self._sessions[token]


def _span(span: str, size: int) -> tuple[int | None, int | None]:
  """'bytes 0-99/100' gives (0, 100); None for a question about the state, and for a total that is not yet known."""
  if not span:
    return 0, size
  match = re.fullmatch(r'bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)', span)
  if not match:
    raise Refused(400, 'badRequest', f'Failed to parse Content-Range header: {span}')
  total = None if match[3] == '*' else int(match[3])
  if match[1] is None:
    return None, total
  if int(match[2]) - int(match[1]) + 1 != size:
    raise Refused(400, 'badRequest', f'{span} does not fit the {size} bytes that came.')
  return int(match[1]), total


def parts(kind: str, body: bytes) -> list[tuple[bytes, bytes]]:
  """The parts of a multipart body, each as its headers and its content."""
  boundary = b'--' + kind.partition('boundary=')[2].strip('"\' ').encode()
  found = []
  for part in body.split(boundary)[1:]:
    if part.startswith(b'--'):
      break
    end = b'\r\n' if part.startswith(b'\r\n') else b'\n'
    head, empty, content = part.removeprefix(end).partition(end + end)
    if not empty or not content.endswith(end):
      raise Refused(400, 'badRequest', 'Missing end boundary in multipart body.')
    found.append((head, content.removesuffix(end)))
  return found


def related(kind: str, body: bytes) -> tuple[dict, str, bytes]:
  """An upload with its description in front: the description, the type of the content, the content."""
  found = parts(kind, body)
  if len(found) != 2:
    raise Refused(400, 'badRequest', 'Invalid multipart request with 0 mime parts.')
  match = re.search(rb'content-type:\s*([^\r\n]+)', found[1][0], re.IGNORECASE)
  return json.loads(found[0][1]), match[1].decode() if match else '', found[1][1]


def batch(kind: str, body: bytes, answer: Callable[[str, str], tuple[int, bytes]]) -> tuple[str, bytes]:
  """Answers each packed request by `answer(method, path)`; the type and the body of the answer."""
  boundary, packed = f'batch_{secrets.token_hex(8)}', b''
  for number, (_, inner) in enumerate(parts(kind, body), 1):
    match = re.match(rb'\s*(\S+) (\S+) HTTP/', inner)
    if not match:
      raise Refused(400, 'badRequest', 'Failed to parse batch request.')
    status, content = answer(match[1].decode(), match[2].decode())
    head = f'\r\nContent-Type: application/http\r\nContent-ID: <response-{number}>\r\n\r\nHTTP/1.1 {status} -\r\n'
    packed += f'--{boundary}{head}Content-Type: application/json\r\n\r\n'.encode() + content + b'\r\n'
  return f'multipart/mixed; boundary={boundary}', packed + f'--{boundary}--'.encode()
