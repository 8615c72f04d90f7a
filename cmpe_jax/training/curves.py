"""TensorBoard's curves: what metrics.jsonl held at the start in one event file, what came since in another.

An event file of a killed run lacks its last seconds. So every start writes its own anew, and removes the earlier ones.
"""

import pathlib
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from typing import Any

from etils import epath

FOLDER = 'tensorboard'
EVERY = 10.0  # seconds
Times = dict[tuple[str, int], float]


def files(target: epath.Path) -> list[epath.Path]:
  """The event files of a workdir."""
  folder = target / FOLDER
  return sorted(folder.glob('events.out.tfevents.*')) if folder.exists() else []


def times(paths: Iterable[epath.Path]) -> Times:
  """When the points in event files were written: {(curve, step): seconds}."""
  found: Times = {}
  for path in paths:
    for event in _events(path.read_bytes()):
      found |= {(value.tag, event.step): event.wall_time for value in event.summary.value}
  return found


class Points:
  """An event file of points, for a run that has done `step` steps: TensorBoard drops later points of earlier files.

  Written by no thread, so that a disk that is full is an `OSError` where it happens; on the disk after `EVERY` seconds.
  """

  def __init__(self, path: pathlib.Path, began: float | None = None, step: int | None = None):
    """Begins the file `path` anew; `began`: its time in seconds, by default now."""
    from tensorboardX.proto.event_pb2 import SessionLog  # late: 0.3 s
    from tensorboardX.record_writer import RecordWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    self._writer, self._flushed = RecordWriter(str(path)), time.monotonic()
    self._put(began, file_version='brain.Event:2')
    if step is not None:
      self._put(began, step=step + 1, session_log=SessionLog(status=SessionLog.START))

  def add(self, name: str, value: float, step: int, when: float | None = None) -> None:
    """One point of the curve `name`."""
    from tensorboardX.summary import scalar

    self.add_summary(scalar(name, value), step, when)

  def add_summary(self, summary: Any, step: int, when: float | None = None) -> None:
    """Whatever TensorBoard shows."""
    self._put(when, step=step, summary=summary)

  def _put(self, when: float | None, **event: Any) -> None:
    from tensorboardX.proto.event_pb2 import Event

    self._writer.write(Event(wall_time=time.time() if when is None else when, **event).SerializeToString())
    if time.monotonic() - self._flushed > EVERY:
      self.flush()

  def flush(self) -> None:
    """Brings what was added to the disk, which takes its time."""
    self._writer.flush()
    self._flushed = time.monotonic()

  def close(self) -> None:
    """Flushes, and closes the file."""
    self._writer.close()


def begin(folder: pathlib.Path, step: int, lines: list[dict[str, Any]], known: Times) -> Points:
  """A file for the points of a run that has done `step` steps, beside one with those of `lines`, which is whole.

  Earlier event files in `folder` are removed; TensorBoard drops what it read of them. A point that is not `known`
  gets the time of its forerunner.
  """
  place = folder / FOLDER
  name, suffix = f'events.out.tfevents.{int(time.time())}.{socket.gethostname()}', f'.{step:09}'
  earlier = files(epath.Path(folder))
  if lines:
    _write(place / 'history', lines, known)
    (place / 'history').replace(place / f'{name}{suffix}.0')
  for path in earlier:
    if path.name != f'{name}{suffix}.0':
      path.unlink()
  return Points(place / f'{name}{suffix}.1', step=step)


def remove(paths: Iterable[epath.Path], but: pathlib.Path) -> None:
  """Removes event files of earlier starts from a bucket, but not those that its copy of the folder `but` has."""
  kept = {path.name for path in files(epath.Path(but))}
  for path in paths:
    if path.name not in kept:
      path.unlink(missing_ok=True)


def _write(path: pathlib.Path, lines: list[dict[str, Any]], known: Times) -> None:
  last = min(known.values(), default=time.time())
  points = Points(path, last, step=-1)
  for line in lines:
    for name, value in line.items():
      if name != 'step':
        last = known.get((name, line['step']), last)
        points.add(name, value, line['step'], last)
  points.close()


def _events(data: bytes) -> Iterator[Any]:
  """The events of a file, whose last one may be cut off: length, its checksum, event, its checksum, each time."""
  from google.protobuf.message import DecodeError
  from tensorboardX.proto.event_pb2 import Event

  at = 0
  while at + 12 <= len(data):
    (length,) = struct.unpack_from('<Q', data, at)
    if at + 16 + length > len(data):
      return
    try:
      yield Event.FromString(data[at + 12 : at + 12 + length])
    except DecodeError:  # damaged
      return
    at += 16 + length


def write_hyperparameters(folder: pathlib.Path, values: dict[str, Any], metrics: dict[str, float], step: int) -> None:
  """One run of TensorBoard's HParams page: what was set and what came out, in an event file of `folder`.

  Earlier event files there are replaced. Values are numbers, texts and truths; others become texts.
  """
  from tensorboardX.summary import hparams

  plain = {name: value if isinstance(value, str | bool | int | float) else str(value) for name, value in values.items()}
  for path in folder.glob('events.out.tfevents.*'):
    path.unlink()
  points = Points(folder / f'events.out.tfevents.{int(time.time())}.{socket.gethostname()}')
  for summary in hparams(plain, metrics):
    points.add_summary(summary, step)
  for name, value in metrics.items():
    points.add(name, value, step)
  points.close()
