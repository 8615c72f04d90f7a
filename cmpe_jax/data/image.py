"""Images on the host: decoding and cropping, to uint8 RGB.

Two decoders give the same picture to a few grey levels. nvImageCodec decodes on the CPU only the rows and columns of
a crop, and OpenCV resizes it. Where they are not installed (there are wheels for Linux only) Pillow does both, at half
the speed. Either one reads grey, CMYK, progressive and PNG-in-JPEG files as RGB, and ignores the EXIF orientation.
Resizing that averages over all pixels ('bilinear', 'bicubic') is Pillow's, and so is the decoding before it.
"""

import contextlib
import functools
import io
import math
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from cmpe_jax.errors import UserError

Box = tuple[int, int, int, int]  # top, left, height, width in pixels
CENTRE = 224 / 256  # part of the shorter side that an evaluation sees: resize to 256, crop 224
_MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 2**26)  # Pillow takes more for an attack
_FILTERS = {'bilinear': Image.Resampling.BILINEAR, 'bicubic': Image.Resampling.BICUBIC}
_END = b'\xff\xd9'  # of a JPEG file
_thread = threading.local()
_loading = threading.Lock()


def decode(data: bytes, name: str) -> np.ndarray:
  """Any format that Pillow reads, as RGB: uint8[h, w, 3].

  Raises:
    UserError: `data` is not a whole image; `name` says which it is.
  """
  return np.asarray(_open(data, name))


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
  """The largest centred square, resized (bilinear with antialiasing): uint8[h, w, 3] -> uint8[size, size, 3]."""
  height, width = pixels.shape[:2]
  if (height, width) == (size, size):
    return pixels
  side = min(height, width)
  left, top = (width - side) / 2, (height - side) / 2
  box = (left, top, left + side, top + side)
  return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box=box))


def random_box(height: int, width: int, generator: np.random.Generator) -> Box:
  """A crop of 8-100% of the area with a ratio of 3/4 to 4/3, log-uniform (Szegedy et al. 2015).

  Ten tries; if none fits into the image, the largest centred crop whose ratio is in the range.
  """
  area = height * width * generator.uniform(0.08, 1, 10)
  ratio = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3), 10))
  widths, heights = np.rint(np.sqrt(area * ratio)).astype(int), np.rint(np.sqrt(area / ratio)).astype(int)
  place = generator.uniform(0, 1, 2)
  for crop_height, crop_width in zip(heights.tolist(), widths.tolist(), strict=True):
    if 0 < crop_height <= height and 0 < crop_width <= width:
      top, left = int(place[0] * (height - crop_height + 1)), int(place[1] * (width - crop_width + 1))
      return top, left, crop_height, crop_width
  crop_height, crop_width = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
  return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def centre_box(height: int, width: int, share: float = CENTRE) -> Box:
  """The central `share` of the shorter side, in whole pixels."""
  side = max(1, round(share * min(height, width)))
  return (height - side) // 2, (width - side) // 2, side, side


def random_crop(
  data: bytes, name: str, size: int, generator: np.random.Generator, interpolation: str = 'four_pixels'
) -> np.ndarray:
  """A random-resized crop, mirrored half the time: uint8[size, size, 3]. Raises `UserError` as `decode`.

  Args:
    data: an image file.
    name: says which image it is.
    size: side of the crop.
    generator: of the randomness.
    interpolation: 'four_pixels': each pixel from the nearest four; 'bilinear', 'bicubic': over all pixels.
  """
  is_mirrored = generator.random() < 0.5
  if interpolation == 'four_pixels':
    return _crop(data, name, size, lambda height, width: random_box(height, width, generator), is_mirrored)
  picture = _open(data, name)
  top, left, height, width = random_box(picture.height, picture.width, generator)
  part = picture.crop((left, top, left + width, top + height)).resize((size, size), _FILTERS[interpolation])
  return np.asarray(part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if is_mirrored else part)


def centre_crop(
  data: bytes, name: str, size: int, interpolation: str = 'bilinear', share: float = CENTRE
) -> np.ndarray:
  """The crop for evaluation, `share` of the shorter side: uint8[size, size, 3]. Raises `UserError` as `decode`.

  'bilinear' and 'bicubic' resize the shorter side to `size` / `share`, over all pixels, and take the centre: what
  `Resize` and `CenterCrop` of torchvision, which timm uses, make of Pillow's images, to the bit. 'four_pixels' takes
  each pixel from the nearest four, as in training.
  """
  if interpolation == 'four_pixels':
    return _crop(data, name, size, lambda height, width: centre_box(height, width, share), is_mirrored=False)
  picture = _open(data, name)
  shorter, side = math.floor(size / share), min(picture.size)
  width, height = (shorter if length == side else int(shorter * length / side) for length in picture.size)
  left, top = round((width - size) / 2), round((height - size) / 2)
  resized = picture.resize((width, height), _FILTERS[interpolation])
  return np.asarray(resized.crop((left, top, left + size, top + size)))


def evaluated(
  data: bytes, name: str, size: int, is_cropped: bool, interpolation: str, share: float = CENTRE
) -> np.ndarray:
  """An image file as an evaluation shows it: `centre_crop`, or `resize` where nothing is cropped."""
  return centre_crop(data, name, size, interpolation, share) if is_cropped else resize(decode(data, name), size)


def _crop(data: bytes, name: str, size: int, choose: Callable[[int, int], Box], is_mirrored: bool) -> np.ndarray:
  """Crops what `choose(height, width)` says and resizes it (bilinear, each output pixel from the nearest four)."""
  fast = _fast()
  # A truncated file would be filled up with grey without a word: what does not end like a JPEG goes to Pillow.
  if fast and _END in data[-64:]:
    with contextlib.suppress(Exception):  # Pillow may read it, or say what is wrong
      return _crop_while_decoding(*fast, data, size, choose, is_mirrored)
  picture = _open(data, name)
  top, left, height, width = choose(picture.height, picture.width)
  extent = (left, top, left + width, top + height)
  resized = picture.transform((size, size), Image.Transform.EXTENT, extent, Image.Resampling.BILINEAR)
  return np.asarray(resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if is_mirrored else resized)


def _crop_while_decoding(
  codec: Any, opencv: Any, data: bytes, size: int, choose: Callable[[int, int], Box], is_mirrored: bool
) -> np.ndarray:
  stream = codec.CodeStream(data)
  if stream.height * stream.width > _MAX_PIXELS:
    raise ValueError('too large')  # one wrong bit in the header would ask for all the memory there is
  top, left, height, width = choose(stream.height, stream.width)
  region = codec.Region(top, left, top + height, left + width)
  decoded = _decoder(codec).decode(stream.get_sub_code_stream(0, region=region), params=_parameters(codec))
  resized = opencv.resize(np.asarray(decoded), (size, size), interpolation=opencv.INTER_LINEAR)
  return opencv.flip(resized, 1) if is_mirrored else resized


def facts(data: bytes, name: str) -> tuple[int, int, int]:
  """(width, height, frames) of an image file, all of whose frames are looked up. Raises `UserError` as `decode`."""
  with _opened(data, name) as opened:
    return *opened.size, getattr(opened, 'n_frames', 1)


def _open(data: bytes, name: str) -> Image.Image:
  """A whole image in RGB. Raises `UserError` with its name."""
  with _opened(data, name) as opened:
    if 0 in opened.size:
      raise ValueError('it has no pixels')
    if opened.mode.startswith('I;16'):  # convert() would clip at 255
      return Image.fromarray((np.asarray(opened) / 257).round().astype(np.uint8)).convert('RGB')
    return opened.convert('RGB')


@contextlib.contextmanager
def _opened(data: bytes, name: str) -> Iterator[Image.Image]:
  """Pillow's image, not yet decoded. Whatever is raised on the way to its pixels becomes a `UserError` with its name.

  Each of Pillow's forty readers has its own errors for damaged bytes: OSError, SyntaxError, ValueError, EOFError,
  struct.error, IndexError, KeyError, OverflowError, MemoryError, ...
  """
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # broken EXIF blocks and the like do not concern the pixels
      with Image.open(io.BytesIO(data)) as opened:
        yield opened
  except UnidentifiedImageError as error:
    raise UserError(f'{name} is not a readable image (its format is not known). Repair or remove it.') from error
  except Image.DecompressionBombError as error:
    raise UserError(
      f'{name} is not a readable image: it has more than the {_MAX_PIXELS:,} pixels that are decoded. Make it smaller.'
    ) from error
  except Exception as error:
    why = str(error) or type(error).__name__
    raise UserError(f'{name} is not a readable image ({why}). Repair or remove it.') from error


def load_decoder() -> None:
  """Imports what decodes crops. Call it before threads do: while it runs, nobody's words reach stderr."""
  _fast()


def _fast() -> tuple[Any, Any] | None:
  """nvImageCodec and OpenCV, or None."""
  with _loading:  # two threads that silence stderr at once would leave it silent
    return _load()


@functools.cache
def _load() -> tuple[Any, Any] | None:
  """Importing nvImageCodec complains on stderr about CUDA libraries for the GPU."""
  try:
    with _silenced_stderr():
      import cv2
      from nvidia import nvimgcodec
  except ImportError:
    return None
  cv2.setNumThreads(0)  # the pipeline has threads of its own
  return nvimgcodec, cv2


def decoder_name() -> str:
  """Which of the two decoders is in use."""
  return 'nvImageCodec (crops while decoding)' if _fast() else 'Pillow'


def _decoder(codec: Any) -> Any:
  """One decoder a thread: they are not to be shared."""
  if not hasattr(_thread, 'decoder'):
    backends = [codec.Backend(codec.CPU_ONLY)]
    _thread.decoder = codec.Decoder(
      device_id=codec.NVIMGCODEC_DEVICE_CPU_ONLY, max_num_cpu_threads=1, backends=backends
    )
  return _thread.decoder


@functools.cache
def _parameters(codec: Any) -> Any:
  return codec.DecodeParams(apply_exif_orientation=False)


@contextlib.contextmanager
def _silenced_stderr() -> Iterator[None]:
  """Of C++ code too: the file descriptor itself points to nowhere for a moment."""
  kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
  try:
    os.dup2(nowhere, 2)
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.close(nowhere)
