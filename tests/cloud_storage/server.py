"""A Cloud Storage service on this machine, for the clients that training uses.

In a test: `with server.Server('bucket') as cloud`; `cloud.environment()` is for the clients, `cloud.faults` orders what
goes wrong and lists what was asked. By itself, in tests/: `python -m cloud_storage.server BUCKET...` prints the
variables and serves until it is interrupted; orders come over HTTP then: POST /faults with the fields of a `Fault` as
JSON, DELETE /faults, GET /requests.
"""

import dataclasses
import http.server
import json
import socket
import sys
import threading
import time

from cloud_storage.calls import Answer, Calls, refusal
from cloud_storage.faults import STATUSES, Fault, Faults, Request
from cloud_storage.objects import Refused, Store

LIKE_THE_REAL_ONE = '/storage.googleapis.com'  # gcsfs looks for this name before it packs requests together
CONTROLS = ('/faults', '/requests')


class Server:
  """The service, from `__enter__` to `__exit__`, on a free port of this machine."""

  def __init__(self, *buckets: str, port: int = 0):
    self.store, self.faults = Store(), Faults()
    for bucket in buckets:
      self.store.make_bucket(bucket)
    handler = type('Handler', (Handler,), {'service': self})
    self._http = Http(('127.0.0.1', port), handler)
    self._thread = threading.Thread(target=self._http.serve_forever, kwargs={'poll_interval': 0.05}, daemon=True)
    self.url = f'http://127.0.0.1:{self._http.server_address[1]}'
    self.calls = Calls(self.url, self.store, self.faults)

  def __enter__(self) -> 'Server':
    self._thread.start()
    return self

  def __exit__(self, *error: object) -> None:
    self._http.shutdown()
    self._http.server_close()

  def environment(self) -> dict[str, str]:
    """The variables that send all three clients here, with nothing to ask elsewhere."""
    return {
      'STORAGE_EMULATOR_HOST': self.url + LIKE_THE_REAL_ONE,  # gcsfs, google-cloud-storage
      'TENSORSTORE_GCS_HTTP_URL': self.url,
      'EPATH_USE_TF': 'false',  # else TensorFlow, where it is installed, opens gs:// by itself
      'FSSPEC_GCS_TOKEN': 'anon',
      'FSSPEC_GS_TOKEN': 'anon',
      'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',  # else gcsfs asks for the bucket's layout, over gRPC
      'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'token',
      'GOOGLE_CLOUD_PROJECT': 'project',
      'NO_GCE_CHECK': 'true',
      'GCE_METADATA_ROOT': '127.0.0.1:9',  # nothing listens there
      'GCE_METADATA_HOST': '127.0.0.1:9',
    }


class Http(http.server.ThreadingHTTPServer):
  """Clients may be killed: that is no error here."""

  def handle_error(self, request: object, client_address: object) -> None:
    """Prints a traceback of everything but a connection that ended."""
    if not isinstance(sys.exception(), ConnectionError):
      super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
  """One connection."""

  service: Server
  protocol_version = 'HTTP/1.1'
  disable_nagle_algorithm = True
  wbufsize = -1  # head and body go out together

  def _serve(self) -> None:
    path = self.path.removeprefix(LIKE_THE_REAL_ONE)
    if path in CONTROLS:
      return self._send(*self._control(path))
    body = self._read()
    headers = {name.lower(): value for name, value in self.headers.items()}
    about = self.service.calls.about(path, headers, body)
    asked = Request(self.command, about, headers.get('user-agent', ''), headers.get('authorization', ''))
    fault = self.service.faults.meet(asked)
    kind = fault.kind if fault else None
    if kind == 'cut' and self.command in ('POST', 'PUT'):
      return self._drop()
    if kind == 'hang':
      time.sleep(fault.seconds)
    if isinstance(kind, int):
      answer = refusal(Refused(kind, *STATUSES[kind]))
    else:
      answer = self.service.calls.answer(self.command, path, headers, body)
    asked.status = answer[0]
    return self._drop() if kind == 'lost' else self._send(*answer, cut=kind == 'cut')

  do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve  # noqa: N815

  def _read(self) -> bytes:
    if 'chunked' not in self.headers.get('transfer-encoding', ''):
      return self.rfile.read(int(self.headers.get('content-length', 0)))
    body = b''
    while size := int(self.rfile.readline().split(b';')[0], 16):
      body += self.rfile.read(size)
      self.rfile.readline()
    self.rfile.readline()
    return body

  def _control(self, path: str) -> Answer:
    faults, answer = self.service.faults, b'{}'
    if path == '/requests':
      answer = json.dumps([dataclasses.asdict(request) for request in faults.requests()]).encode()
    elif self.command == 'DELETE':
      faults.clear()
    else:
      faults.order(**dataclasses.asdict(Fault(**json.loads(self._read()))))
    return 200, {'Content-Type': 'application/json'}, answer

  def _send(self, status: int, headers: dict[str, str], body: bytes, cut: bool = False) -> None:
    self.send_response(status)
    for name, value in headers.items():
      self.send_header(name, value)
    has_body = status not in (204, 304)
    if has_body:
      self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    if has_body:
      self.wfile.write(body[: len(body) // 2] if cut else body)
    self.wfile.flush()
    if cut:
      self._drop()

  def _drop(self) -> None:
    self.close_connection = True
    self.connection.shutdown(socket.SHUT_RDWR)

  def log_message(self, format: str, *args: object) -> None:
    """Says nothing: `faults.requests()` has it all."""


def main(buckets: list[str]) -> None:
  """Serves until interrupted."""
  with Server(*buckets) as server:
    print('\n'.join(f'export {name}={value}' for name, value in server.environment().items()), flush=True)
    threading.Event().wait()


if __name__ == '__main__':
  main(sys.argv[1:])
