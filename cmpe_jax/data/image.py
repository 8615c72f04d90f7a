"""Images on the host: decoding and cropping, to uint8 RGB."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from cmpe_jax.errors import UserError


def decode(data: bytes, name: str) -> np.ndarray:
  """Any format that Pillow reads, as RGB: uint8[h, w, 3].

  Raises:
    UserError: `data` is not a whole image; `name` says which it is.
  """
  try:
    with Image.open(io.BytesIO(data)) as opened:
      return np.asarray(opened.convert('RGB'))
  except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
    raise UserError(f'{name} is not a readable image ({error}). Repair or remove it.') from error


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
  """The largest centred square, resized (bilinear with antialiasing): uint8[h, w, 3] -> uint8[size, size, 3]."""
  height, width = pixels.shape[:2]
  if (height, width) == (size, size):
    return pixels
  side = min(height, width)
  left, top = (width - side) / 2, (height - side) / 2
  box = (left, top, left + side, top + side)
  return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box=box))
