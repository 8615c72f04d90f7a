"""The JSON calls that gcsfs, TensorStore and google-cloud-storage make, from path to answer."""

import dataclasses
import json
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

from cloud_storage.faults import Faults
from cloud_storage.objects import Object, Refused, Store
from cloud_storage.uploads import Uploads, batch, related

Answer = tuple[int, dict[str, str], bytes]  # status, headers, body
BUCKET, OBJECT, SESSION = '(?P<bucket>[^/]+)', '(?P<name>[^/]+)', '(?P<token>[^/]+)'
OF = f'/storage/v1/b/{BUCKET}'
ROUTES = [
  ('GET', '/storage/v1/b', 'list_buckets', ''),
  ('POST', '/storage/v1/b', 'make_bucket', ''),
  ('GET', OF, 'get_bucket', 'storage.buckets.get'),
  ('DELETE', OF, 'remove_bucket', 'storage.buckets.delete'),
  ('GET', f'{OF}/o', 'list_objects', 'storage.objects.list'),
  ('GET', f'(?:/download)?{OF}/o/{OBJECT}', 'get', 'storage.objects.get'),
  ('DELETE', f'{OF}/o/{OBJECT}', 'remove', 'storage.objects.delete'),
  (
    'POST',
    f'{OF}/o/{OBJECT}/(?P<how>rewrite|copy)To/b/(?P<to>[^/]+)/o/(?P<target>[^/]+)',
    'copy',
    'storage.objects.create',
  ),
  ('POST', f'{OF}/o/{OBJECT}/moveTo/o/(?P<target>[^/]+)', 'move', 'storage.objects.move'),
  ('POST', f'{OF}/o/{OBJECT}/compose', 'compose', 'storage.objects.create'),
  ('POST', f'/upload{OF}/o', 'upload', 'storage.objects.create'),
  ('PUT|POST', f'/upload/session/{BUCKET}/{SESSION}', 'piece', 'storage.objects.create'),
  ('DELETE', f'/upload/session/{BUCKET}/{SESSION}', 'cancel', 'storage.objects.create'),
  ('POST', '/batch/storage/v1', 'batch', ''),
]


@dataclasses.dataclass
class Asked:
  """What a call brings besides the names in its path. The headers' names are in small letters."""

  query: Mapping[str, str]
  headers: Mapping[str, str]
  body: bytes


class Calls:
  """Answers them from a store."""

  def __init__(self, url: str, store: Store, faults: Faults):
    self._url, self._store, self._faults = url, store, faults
    self._uploads = Uploads(store)

  def about(self, path: str, headers: Mapping[str, str], body: bytes) -> str:
    """The path in plain letters, with the object's name where only the upload itself has it."""
    split = urllib.parse.urlsplit(path)
    name = ''
    if '/upload/session/' in split.path:
      name = self._uploads.name(split.path.rsplit('/', 1)[1])
    elif 'uploadType=multipart' in split.query:
      name = related(headers.get('content-type', ''), body)[0].get('name', '')
    more = ('&' if split.query else '?') + f'name={name}' if name and 'name=' not in split.query else ''
    return urllib.parse.unquote(path) + more

  def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
    """Finds the call, checks the permission that it needs, and answers it."""
    split = urllib.parse.urlsplit(path)
    asked = Asked(dict(urllib.parse.parse_qsl(split.query, keep_blank_values=True)), headers, body)
    try:
      for methods, pattern, name, permission in ROUTES:
        match = re.fullmatch(methods, method) and re.fullmatch(pattern, split.path.rstrip('/'))
        if match:
          names = {key: urllib.parse.unquote(value) for key, value in match.groupdict().items()}
          self._allow(permission, names.get('bucket', ''))
          return getattr(self, f'_{name}')(asked, **names)
      raise Refused(501, 'notImplemented', f'{method} {path} is not part of this stand-in.')
    except Refused as refused:
      return refusal(refused, plain=asked.query.get('alt') == 'media')

  def _allow(self, permission: str, bucket: str) -> None:
    if self._faults.denied(bucket, permission):
      resource = 'bucket' if permission.startswith('storage.buckets') else 'object'
      raise Refused(
        403,
        'forbidden',
        f'The caller does not have {permission} access to the Google Cloud Storage {resource}. '
        f"Permission '{permission}' denied on resource (or it may not exist).",
      )

  def _list_buckets(self, asked: Asked) -> Answer:
    items = [self._store.bucket(bucket) for bucket in self._store.buckets()]
    return _json({'kind': 'storage#buckets', 'items': items})

  def _make_bucket(self, asked: Asked) -> Answer:
    name = json.loads(asked.body)['name']
    self._store.make_bucket(name)
    return _json(self._store.bucket(name))

  def _get_bucket(self, asked: Asked, bucket: str) -> Answer:
    return _json(self._store.bucket(bucket))

  def _remove_bucket(self, asked: Asked, bucket: str) -> Answer:
    self._store.remove_bucket(bucket)
    return 204, {}, b''

  def _list_objects(self, asked: Asked, bucket: str) -> Answer:
    return _json(self._store.list(bucket, asked.query))

  def _get(self, asked: Asked, bucket: str, name: str) -> Answer:
    found = self._store.get(bucket, name, asked.query)
    media = asked.query.get('alt') == 'media'
    return _content(found, asked.headers.get('range', '')) if media else _json(found.resource())

  def _remove(self, asked: Asked, bucket: str, name: str) -> Answer:
    self._store.remove(bucket, name, asked.query)
    return 204, {}, b''

  def _copy(self, asked: Asked, bucket: str, name: str, how: str, to: str, target: str) -> Answer:
    made = self._store.copy((bucket, name), (to, target), asked.query)
    if how == 'copy':
      return _json(made.resource())
    size = str(len(made.data))
    rewritten = {'kind': 'storage#rewriteResponse', 'totalBytesRewritten': size, 'objectSize': size, 'done': True}
    return _json(rewritten | {'resource': made.resource()})

  def _move(self, asked: Asked, bucket: str, name: str, target: str) -> Answer:
    return _json(self._store.copy((bucket, name), (bucket, target), asked.query, move=True).resource())

  def _compose(self, asked: Asked, bucket: str, name: str) -> Answer:
    sources = [self._store.get(bucket, source['name'], {}) for source in json.loads(asked.body)['sourceObjects']]
    return _json(self._store.put(bucket, name, b''.join(source.data for source in sources), asked.query).resource())

  def _upload(self, asked: Asked, bucket: str) -> Answer:
    if asked.query.get('uploadType') != 'resumable':
      return _json(self._uploads.whole(bucket, asked.query, asked.headers, asked.body).resource())
    token = self._uploads.begin(bucket, asked.query, asked.headers, asked.body)
    return 200, {'Location': f'{self._url}/upload/session/{bucket}/{token}', 'X-GUploader-UploadID': token}, b''

  def _piece(self, asked: Asked, bucket: str, token: str) -> Answer:
    done, held = self._uploads.piece(token, asked.headers.get('content-range', ''), asked.body)
    return _json(done.resource()) if done else (308, {'Range': f'bytes=0-{held - 1}'} if held else {}, b'')

  def _cancel(self, asked: Asked, bucket: str, token: str) -> Answer:
    self._uploads.cancel(token)
    return 499, {}, b''

  def _batch(self, asked: Asked) -> Answer:
    def answer(method: str, path: str) -> tuple[int, bytes]:
      status, _, content = self.answer(method, path, {}, b'')
      return status, content

    kind, packed = batch(asked.headers.get('content-type', ''), asked.body, answer)
    return 200, {'Content-Type': kind}, packed


def _json(value: Any, status: int = 200) -> Answer:
  return status, {'Content-Type': 'application/json; charset=UTF-8'}, json.dumps(value).encode()


def refusal(refused: Refused, plain: bool = False) -> Answer:
  """An error as JSON; content that is asked for and refused has a plain sentence instead."""
  if plain:
    return refused.status, {'Content-Type': 'text/html; charset=UTF-8'}, refused.message.encode()
  details = [{'message': refused.message, 'domain': 'global', 'reason': refused.reason}]
  return _json({'error': {'code': refused.status, 'message': refused.message, 'errors': details}}, refused.status)


def _content(found: Object, span: str) -> Answer:
  """An object's bytes, or those that a header 'bytes=FIRST-LAST' asks for."""
  headers = {
    'Content-Type': found.content_type,
    'X-Goog-Generation': str(found.generation),
    'X-Goog-Metageneration': '1',
    'X-Goog-Hash': f'md5={found.md5}',
    'X-Goog-Storage-Class': 'STANDARD',
    'X-Goog-Stored-Content-Length': str(len(found.data)),
    'X-Goog-Stored-Content-Encoding': 'identity',
    'ETag': f'"{found.generation}"',
  }
  match = re.fullmatch(r'bytes=(\d*)-(\d*)', span)
  if not match or match[0] == 'bytes=-':
    return 200, headers, found.data
  size = len(found.data)
  first = int(match[1]) if match[1] else max(size - int(match[2]), 0)
  last = min(int(match[2]), size - 1) if match[1] and match[2] else size - 1
  if first > last:
    raise Refused(416, 'requestedRangeNotSatisfiable', 'The requested range cannot be satisfied.')
  return 206, headers | {'Content-Range': f'bytes {first}-{last}/{size}'}, found.data[first : last + 1]
