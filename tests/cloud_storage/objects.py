"""What a Cloud Storage service keeps: buckets of objects with generations, and the rules for changing them.

Everything happens under one lock, so that whoever reads after a write sees it, as the real service promises.
"""

import base64
import dataclasses
import datetime
import hashlib
import itertools
import threading
from collections.abc import Callable, Mapping

PAGE = 1000  # the most that one answer to a listing holds


class Refused(Exception):
  """An answer that is not a success: its HTTP status, the service's reason and its message."""

  def __init__(self, status: int, reason: str, message: str):
    super().__init__(message)
    self.status, self.reason, self.message = status, reason, message


@dataclasses.dataclass(frozen=True)
class Object:
  """One generation of an object."""

  bucket: str
  name: str
  data: bytes
  generation: int
  content_type: str
  created: str
  metadata: Mapping[str, str]

  @property
  def md5(self) -> str:
    """The checksum as the service writes it."""
    return base64.b64encode(hashlib.md5(self.data).digest()).decode()

  def resource(self) -> dict[str, object]:
    """The object as JSON describes it."""
    return {
      'kind': 'storage#object',
      'id': f'{self.bucket}/{self.name}/{self.generation}',
      'bucket': self.bucket,
      'name': self.name,
      'generation': str(self.generation),
      'metageneration': '1',
      'contentType': self.content_type,
      'storageClass': 'STANDARD',
      'size': str(len(self.data)),
      'md5Hash': self.md5,
      'etag': base64.b64encode(str(self.generation).encode()).decode(),
      'timeCreated': self.created,
      'updated': self.created,
      'metadata': dict(self.metadata),
    }


class Store:
  """The buckets. Every method raises `Refused` where the service would refuse."""

  def __init__(self):
    self._lock = threading.RLock()
    self._buckets: dict[str, dict[str, Object]] = {}
    self._generations = itertools.count(1_700_000_000_000_001)

  def make_bucket(self, bucket: str) -> None:
    """A new, empty one."""
    with self._lock:
      if bucket in self._buckets:
        raise Refused(
          409, 'conflict', 'Your previous request to create the named bucket succeeded and you already own it.'
        )
      self._buckets[bucket] = {}

  def remove_bucket(self, bucket: str) -> None:
    """Removes an empty one."""
    with self._lock:
      if self._in(bucket):
        raise Refused(409, 'conflict', 'The bucket you tried to delete is not empty.')
      del self._buckets[bucket]

  def buckets(self) -> list[str]:
    """Their names."""
    with self._lock:
      return sorted(self._buckets)

  def bucket(self, bucket: str) -> dict[str, object]:
    """A bucket as JSON describes it."""
    with self._lock:
      self._in(bucket)
    return {'kind': 'storage#bucket', 'id': bucket, 'name': bucket, 'location': 'US', 'locationType': 'multi-region'}

  def get(self, bucket: str, name: str, query: Mapping[str, str]) -> Object:
    """An object, if the conditions in the query hold."""
    with self._lock:
      found = self._in(bucket).get(name)
      if found is None or query.get('generation', str(found.generation)) != str(found.generation):
        raise Refused(404, 'notFound', f'No such object: {bucket}/{name}')
      check(found, query, reading=True)
      return found

  def put(
    self,
    bucket: str,
    name: str,
    data: bytes,
    query: Mapping[str, str],
    content_type: str = 'application/octet-stream',
    metadata: Mapping[str, str] | None = None,
  ) -> Object:
    """Writes a new generation, if the conditions in the query hold for the one before."""
    if not 1 <= len(name.encode()) <= 1024:
      raise Refused(400, 'invalid', f'The specified object name is not valid: {name!r}')
    with self._lock:
      objects = self._in(bucket)
      check(objects.get(name), query)
      now = datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%dT%H:%M:%S.%f')[:-3] + 'Z'
      objects[name] = Object(bucket, name, data, next(self._generations), content_type, now, metadata or {})
      return objects[name]

  def remove(self, bucket: str, name: str, query: Mapping[str, str]) -> None:
    """Removes an object, if the conditions in the query hold."""
    with self._lock:
      self.get(bucket, name, {key: value for key, value in query.items() if key == 'generation'})
      check(self._buckets[bucket][name], query)
      del self._buckets[bucket][name]

  def copy(
    self, source: tuple[str, str], target: tuple[str, str], query: Mapping[str, str], move: bool = False
  ) -> Object:
    """Copies or moves within the service, in one step. Conditions on the source begin with ifSource."""
    with self._lock:
      conditions = {key.replace('ifSource', 'if'): value for key, value in query.items() if key.startswith('ifSource')}
      if 'sourceGeneration' in query:
        conditions['generation'] = query['sourceGeneration']
      found = self.get(*source, conditions)
      made = self.put(*target, found.data, query, found.content_type, found.metadata)
      if move and source != target:
        del self._buckets[source[0]][source[1]]
      return made

  def list(self, bucket: str, query: Mapping[str, str]) -> dict[str, object]:
    """One page of a listing: the objects below a prefix, and the folders that a delimiter makes of them."""
    prefix, delimiter = query.get('prefix', ''), query.get('delimiter', '')
    first, last, after = query.get('startOffset', ''), query.get('endOffset', ''), query.get('pageToken', '')
    with self._lock:
      found = {name: self._buckets[bucket][name] for name in sorted(self._in(bucket)) if name.startswith(prefix)}
    items: list[dict[str, object]] = []
    folders: list[str] = []
    answer: dict[str, object] = {'kind': 'storage#objects'}
    reached = ''
    for name, item in found.items():
      if name < first or (last and name >= last):
        continue
      head, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, '', '')
      folder = prefix + head + delimiter if cut else ''
      if (folder or name) <= after or (folder and folder in folders):
        continue
      if len(items) + len(folders) == min(int(query.get('maxResults', PAGE)), PAGE):
        answer['nextPageToken'] = reached
        break
      if folder:
        folders.append(folder)
      else:
        items.append(item.resource())
      reached = folder or name
    return answer | ({'items': items} if items else {}) | ({'prefixes': folders} if folders else {})

  def _in(self, bucket: str) -> dict[str, Object]:
    if bucket not in self._buckets:
      raise Refused(404, 'notFound', 'The specified bucket does not exist.')
    return self._buckets[bucket]


def check(found: Object | None, query: Mapping[str, str], reading: bool = False) -> None:
  """Raises `Refused` (412, or 304 for a reader who has it already) unless the query's conditions hold for `found`."""
  generation = found.generation if found else 0
  conditions: dict[str, Callable[[int], bool]] = {
    'ifGenerationMatch': lambda wanted: generation == wanted,
    'ifGenerationNotMatch': lambda wanted: generation != wanted,
    'ifMetagenerationMatch': lambda wanted: found is not None and wanted == 1,
    'ifMetagenerationNotMatch': lambda wanted: found is not None and wanted != 1,
  }
  for name, holds in conditions.items():
    if name in query and not holds(int(query[name])):
      if reading and name.endswith('NotMatch'):
        raise Refused(304, 'notModified', 'Not Modified')
      raise Refused(412, 'conditionNotMet', 'At least one of the pre-conditions you specified did not hold.')
