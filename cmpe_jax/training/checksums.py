"""Checksums of what a checkpoint holds: taken from the values that are saved, held against the values that are read.

They are CRC-32: every change of up to 32 neighbouring bits gives another one, and of all other changes one in four
billion does not. zlib takes several GB/s, which is more than any disk gives. They tell damage, not forgery.
"""

import json
import zlib
from typing import Any

import numpy as np

from cmpe_jax.models import paths

Record = dict[str, Any]


def of_state(tree: Any, config: dict[str, object], score: float | None, notes: dict[str, Any]) -> Record:
  """The record of a checkpoint: its arrays (whole ones, as any one process has them), configuration and score.

  `notes`, which belong to the run and not to its state, are in no other place.
  """
  return closed(
    {
      'arrays': {name: of_array(x) for name, x in paths.named(tree).items()},
      'config': of_json(config),
      'score': score,
      'notes': json.loads(json.dumps(notes)),
    }
  )


def closed(record: Record) -> Record:
  """A record with a checksum of itself, in place of one that it may have."""
  record = {name: value for name, value in record.items() if name != 'record'}
  return record | {'record': of_json(record)}


def of_array(x: Any) -> str:
  """'float32[64, 10] 1c291ca3': type, shape, and the checksum of the bytes, row by row, of a replicated array."""
  local = x.addressable_data(0) if hasattr(x, 'addressable_data') else x
  values = np.ascontiguousarray(local).reshape(-1)
  return f'{x.dtype}{list(x.shape)} {zlib.crc32(values.view(np.uint8).data):08x}'


def of_json(values: Any) -> str:
  """The checksum of what JSON can hold, whatever the spaces and the order of its keys."""
  return f'{zlib.crc32(json.dumps(values, sort_keys=True).encode()):08x}'


def is_whole(record: Any) -> bool:
  """Whether a record that was read is one, unchanged."""
  if not isinstance(record, dict) or not isinstance(record.get('arrays'), dict):
    return False
  return record == closed(record)


def shapes(record: Record) -> dict[str, str]:
  """{'params/head/kernel': 'float32[64, 10]', ...}"""
  return {name: entry.rsplit(' ', 1)[0] for name, entry in record['arrays'].items()}


def differing(tree: Any, record: Record) -> list[str]:
  """The names of arrays in a part of a checkpoint's tree whose values are not those that were saved."""
  return [name for name, x in paths.named(tree).items() if record['arrays'].get(name) != of_array(x)]
