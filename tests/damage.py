"""Image files, and what disks, copies and bad lines do to bytes."""

import io

import numpy as np
from PIL import Image, features

FORMATS = ['JPEG', 'PNG', 'GIF', 'WEBP', 'TIFF', 'BMP', *(['AVIF'] if features.check('avif') else [])]


def whole(kind: str, is_moving: bool = False) -> bytes:
  """An image of 24 x 20 pixels, or three of them in one file (GIF, TIFF, WebP, PNG and AVIF)."""
  noise = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3), np.uint8)
  first, *rest = map(Image.fromarray, noise)
  file = io.BytesIO()
  more = {'save_all': True, 'append_images': rest} if is_moving and kind not in ('JPEG', 'BMP') else {}
  first.save(file, kind, **more)
  return file.getvalue()


def damaged(data: bytes, generator: np.random.Generator) -> bytes:
  """Some bits turned over (half the time near the beginning), the end cut off, or bytes put in between."""
  changed = bytearray(data)
  kind = generator.integers(3)
  if kind == 0:
    reach = 8 * (len(data) if generator.random() < 0.5 else min(64, len(data)))
    for place in generator.integers(0, reach, generator.integers(1, 9)).tolist():
      changed[place // 8] ^= 1 << place % 8
  elif kind == 1:
    del changed[int(generator.integers(0, len(data))) :]
  else:
    place = int(generator.integers(0, len(data)))
    changed[place:place] = generator.bytes(int(generator.integers(1, 40)))
  return bytes(changed)


def images(count: int, seed: int = 0):
  """`count` pairs (file suffix, bytes) of damaged images of all formats, every second one with three frames."""
  generator = np.random.default_rng(seed)
  originals = [(kind, whole(kind, is_moving)) for is_moving in (False, True) for kind in FORMATS]
  for number in range(count):
    kind, data = originals[number % len(originals)]
    yield f'.{kind.lower()}', damaged(data, generator)
