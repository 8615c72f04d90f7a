"""A model hub on this machine, for huggingface_hub: `with server.Hub() as hub`, and HF_ENDPOINT is `hub.url`.

It answers what `snapshot_download` asks, in the words of the real one: what a model is, at a branch or a commit; which
files it has; their heads, whose large ones lead to another address; their bytes, from any of them on. It refuses like
the real one: a model that is not there is 401 without a token and 404 with one, a gated one gives its list of files but
none of them. `broken` says what goes wrong besides.
"""

import dataclasses
import hashlib
import http.server
import json
import threading
import urllib.parse

LARGE = 10_000  # bytes, from which on a file lies elsewhere


@dataclasses.dataclass
class Repository:
  """A model: the files of each commit, the newest one last; whether its terms must be accepted."""

  commits: dict[str, dict[str, bytes]]
  is_gated: bool = False


class Hub:
  """The service, from `__enter__` to `__exit__`, on a free port of this machine.

  Attributes:
    broken: {'status': 503} answers everything so; {'breaks': 2, 'after': 1000} ends so many answers with a file's bytes
      early.
    asked: the requests so far, 'GET /path'.
  """

  def __init__(self) -> None:
    self.repositories: dict[str, Repository] = {}
    self.broken: dict[str, int] = {}
    self.asked: list[str] = []
    handler = type('Handler', (Handler,), {'hub': self})
    self._http = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    self.url, self.elsewhere = (f'http://{host}:{self._http.server_address[1]}' for host in ('127.0.0.1', 'localhost'))
    self._thread = threading.Thread(target=self._http.serve_forever, kwargs={'poll_interval': 0.05}, daemon=True)

  def __enter__(self) -> 'Hub':
    self._thread.start()
    return self

  def __exit__(self, *error: object) -> None:
    self._http.shutdown()
    self._http.server_close()

  def push(self, name: str, files: dict[str, bytes], is_gated: bool = False) -> str:
    """A new commit of USER/NAME; returns its hash."""
    repository = self.repositories.setdefault(name, Repository({}, is_gated))
    content = b''.join(hashlib.sha1(data).digest() for data in files.values())
    commit = hashlib.sha1(content + str(len(repository.commits)).encode()).hexdigest()
    repository.commits[commit] = files
    return commit


class Refused(Exception):
  """An answer that is no success."""

  def __init__(self, status: int, code: str = '', message: str = ''):
    self.status = status
    self.headers = {'X-Error-Code': code, 'X-Error-Message': message} if code else {}


class Handler(http.server.BaseHTTPRequestHandler):
  """One connection."""

  hub: Hub
  protocol_version = 'HTTP/1.1'

  def log_message(self, *words: object) -> None:
    """Nothing."""

  def do_HEAD(self) -> None:
    """A file's head."""
    self._serve()

  def do_GET(self) -> None:
    """Facts, or a file."""
    self._serve()

  def _serve(self) -> None:
    path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
    self.hub.asked.append(f'{self.command} {path}')
    try:
      if 'status' in self.hub.broken:
        raise Refused(self.hub.broken['status'])
      match path.strip('/').split('/'):
        case ['api', 'models', user, name]:
          self._facts(f'{user}/{name}', 'main')
        case ['api', 'models', user, name, 'revision', revision]:
          self._facts(f'{user}/{name}', revision)
        case ['api', 'models', user, name, 'tree', revision]:
          self._tree(f'{user}/{name}', revision)
        case [user, name, 'resolve', revision, file]:
          self._file(f'{user}/{name}', revision, file)
        case ['elsewhere', user, name, commit, file]:
          self._bytes(self.hub.repositories[f'{user}/{name}'].commits[commit][file], {})
        case _:
          raise Refused(404)
    except Refused as refused:
      self._answer(refused.status, refused.headers, b'{"error": "refused"}')

  def _commit(self, name: str, revision: str) -> tuple[Repository, str]:
    repository = self.hub.repositories.get(name)
    if repository is None:
      if 'Authorization' in self.headers:
        raise Refused(404, 'RepoNotFound', 'Repository not found')
      raise Refused(401)
    if revision == 'main':
      return repository, list(repository.commits)[-1]
    if revision not in repository.commits:
      raise Refused(404, 'RevisionNotFound', f'Invalid rev id: {revision}')
    return repository, revision

  def _facts(self, name: str, revision: str) -> None:
    repository, commit = self._commit(name, revision)
    siblings = [{'rfilename': file} for file in repository.commits[commit]]
    gated = 'auto' if repository.is_gated else False
    facts = {'_id': commit[:24], 'id': name, 'modelId': name, 'sha': commit, 'private': False, 'gated': gated}
    self._json(facts | {'tags': [], 'downloads': 0, 'likes': 0, 'siblings': siblings})

  def _tree(self, name: str, revision: str) -> None:
    repository, commit = self._commit(name, revision)
    entries = []
    for file, data in repository.commits[commit].items():
      entry = {'type': 'file', 'oid': hashlib.sha1(data).hexdigest(), 'size': len(data), 'path': file}
      if len(data) >= LARGE:
        entry['lfs'] = {'oid': hashlib.sha256(data).hexdigest(), 'size': len(data), 'pointerSize': 134}
      entries.append(entry)
    self._json(entries)

  def _file(self, name: str, revision: str, file: str) -> None:
    repository, commit = self._commit(name, revision)
    if repository.is_gated:
      raise Refused(401, 'GatedRepo', 'Access to this model is restricted')
    if file not in repository.commits[commit]:
      raise Refused(404, 'EntryNotFound', 'Entry not found')
    data = repository.commits[commit][file]
    headers = {'X-Repo-Commit': commit}
    if len(data) < LARGE:
      return self._bytes(data, headers | {'ETag': f'"{hashlib.sha1(data).hexdigest()}"'})
    headers |= {'X-Linked-Size': str(len(data)), 'X-Linked-ETag': f'"{hashlib.sha256(data).hexdigest()}"'}
    return self._answer(302, headers | {'Location': f'{self.hub.elsewhere}/elsewhere/{name}/{commit}/{file}'}, b'')

  def _json(self, value: object) -> None:
    self._answer(200, {'Content-Type': 'application/json'}, json.dumps(value).encode())

  def _bytes(self, data: bytes, headers: dict[str, str]) -> None:
    """A file, from where it is asked for on; ended early where `broken` says so."""
    status, wanted = 200, self.headers.get('Range')
    if wanted:
      first = int(wanted.removeprefix('bytes=').split('-')[0])
      status, headers = 206, headers | {'Content-Range': f'bytes {first}-{len(data) - 1}/{len(data)}'}
      data = data[first:]
    if self.command == 'GET' and self.hub.broken.get('breaks', 0) and len(data) > self.hub.broken['after']:
      self.hub.broken['breaks'] -= 1
      return self._answer(status, headers, data, self.hub.broken['after'])
    return self._answer(status, headers, data)

  def _answer(self, status: int, headers: dict[str, str], body: bytes, end: int | None = None) -> None:
    self.send_response(status)
    for name, value in (headers | {'Content-Length': str(len(body))}).items():
      self.send_header(name, value)
    self.end_headers()
    if self.command != 'HEAD':
      self.wfile.write(body[:end])
    if end is not None:
      self.close_connection = True
