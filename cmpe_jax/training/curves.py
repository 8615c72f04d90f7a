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


def begin(folder: pathlib.Path, step: int, lines: list[dict[str, Any]], known: Times) -> Any:
  """A writer of points for a run that has done `step` steps, beside a file with those of `lines`, which is whole.

  Earlier event files in `folder` are removed; TensorBoard drops what it read of them. A point that is not `known`
  gets the time of its forerunner.
  """
  from tensorboardX import SummaryWriter  # late: 0.3 s

  place = folder / FOLDER
  place.mkdir(parents=True, exist_ok=True)
  name, suffix = f'events.out.tfevents.{int(time.time())}.{socket.gethostname()}', f'.{step:09}'
  earlier = files(epath.Path(folder))
  if lines:
    _write(place / 'history', lines, known)
    (place / 'history').replace(place / f'{name}{suffix}.0')
  for path in earlier:
    if path.name != f'{name}{suffix}.0':
      path.unlink()
  return SummaryWriter(str(place), purge_step=step + 1, flush_secs=10, filename_suffix=f'{suffix}.1')


def remove(paths: Iterable[epath.Path], but: pathlib.Path) -> None:
  """Removes event files of earlier starts from a bucket, but not those that its copy of the folder `but` has."""
  kept = {path.name for path in files(epath.Path(but))}
  for path in paths:
    if path.name not in kept:
      path.unlink(missing_ok=True)


def _write(path: pathlib.Path, lines: list[dict[str, Any]], known: Times) -> None:
  from tensorboardX.proto.event_pb2 import Event, SessionLog
  from tensorboardX.record_writer import RecordWriter
  from tensorboardX.summary import scalar

  last = min(known.values(), default=time.time())
  path.unlink(missing_ok=True)
  writer = RecordWriter(str(path))
  writer.write(Event(wall_time=last, file_version='brain.Event:2').SerializeToString())
  writer.write(Event(wall_time=last, session_log=SessionLog(status=SessionLog.START)).SerializeToString())
  for line in lines:
    for name, value in line.items():
      if name != 'step':
        last = known.get((name, line['step']), last)
        point = Event(wall_time=last, step=line['step'], summary=scalar(name, value))
        writer.write(point.SerializeToString())
  writer.close()


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
  from tensorboardX.proto.event_pb2 import Event
  from tensorboardX.record_writer import RecordWriter
  from tensorboardX.summary import hparams, scalar

  plain = {name: value if isinstance(value, str | bool | int | float) else str(value) for name, value in values.items()}
  folder.mkdir(parents=True, exist_ok=True)
  for path in folder.glob('events.out.tfevents.*'):
    path.unlink()
  now = time.time()
  writer = RecordWriter(str(folder / f'events.out.tfevents.{int(now)}.{socket.gethostname()}'))
  writer.write(Event(wall_time=now, file_version='brain.Event:2').SerializeToString())
  for summary in (*hparams(plain, metrics), *(scalar(name, value) for name, value in metrics.items())):
    writer.write(Event(wall_time=now, step=step, summary=summary).SerializeToString())
  writer.close()
