"""Images on the host: decoding and cropping, to uint8 RGB.

Two decoders give the same picture to a few grey levels. nvImageCodec decodes on the CPU only the rows and columns of
a crop, and OpenCV resizes it. Where they are not installed (there are wheels for Linux only) Pillow does both, at half
the speed. Either one reads grey, CMYK, progressive and PNG-in-JPEG files as RGB. Images that their EXIF block turns are
Pillow's, where they shall be upright.
Resizing that averages over all pixels ('bilinear', 'bicubic') is Pillow's, and so is the decoding before it.
"""

import contextlib
import io
import math
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from cmpe_jax.data import decoder
from cmpe_jax.data.decoder import Box
from cmpe_jax.errors import UserError

CENTRE = 224 / 256  # part of the shorter side that an evaluation sees: resize to 256, crop 224
_MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 2**26)  # Pillow takes more for an attack
_FILTERS = {'bilinear': Image.Resampling.BILINEAR, 'bicubic': Image.Resampling.BICUBIC}
_END = b'\xff\xd9'  # of a JPEG file
_TURNS = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}  # by the EXIF orientation


def decode(data: bytes, name: str, upright: bool = False) -> np.ndarray:
  """Any format that Pillow reads, as RGB: uint8[h, w, 3]; `upright`: turned as its EXIF block says.

  Raises:
    UserError: `data` is not a whole image; `name` says which it is.
  """
  return np.asarray(_open(data, name, upright))


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
  data: bytes,
  name: str,
  size: int,
  generator: np.random.Generator,
  interpolation: str = 'four_pixels',
  upright: bool = False,
) -> np.ndarray:
  """A random-resized crop, mirrored half the time: uint8[size, size, 3]. Raises `UserError` as `decode`.

  Args:
    data: an image file.
    name: says which image it is.
    size: side of the crop.
    generator: of the randomness.
    interpolation: 'four_pixels': each pixel from the nearest four; 'bilinear', 'bicubic': over all pixels.
    upright: whether it is turned as its EXIF block says.
  """
  is_mirrored = generator.random() < 0.5
  if interpolation == 'four_pixels':
    return _crop(data, name, size, lambda height, width: random_box(height, width, generator), is_mirrored, upright)
  picture = _open(data, name, upright)
  top, left, height, width = random_box(picture.height, picture.width, generator)
  part = picture.crop((left, top, left + width, top + height)).resize((size, size), _FILTERS[interpolation])
  return np.asarray(part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if is_mirrored else part)


def centre_crop(
  data: bytes, name: str, size: int, interpolation: str = 'bilinear', share: float = CENTRE, upright: bool = False
) -> np.ndarray:
  """The crop for evaluation, `share` of the shorter side: uint8[size, size, 3]. Raises `UserError` as `decode`.

  'bilinear' and 'bicubic' resize the shorter side to `size` / `share`, over all pixels, and take the centre: what
  `Resize` and `CenterCrop` of torchvision, which timm uses, make of Pillow's images, to the bit. 'four_pixels' takes
  each pixel from the nearest four, as in training.
  """
  if interpolation == 'four_pixels':
    return _crop(data, name, size, lambda height, width: centre_box(height, width, share), False, upright)
  picture = _open(data, name, upright)
  shorter, side = math.floor(size / share), min(picture.size)
  width, height = (shorter if length == side else int(shorter * length / side) for length in picture.size)
  left, top = round((width - size) / 2), round((height - size) / 2)
  resized = picture.resize((width, height), _FILTERS[interpolation])
  return np.asarray(resized.crop((left, top, left + size, top + size)))


def evaluated(
  data: bytes,
  name: str,
  size: int,
  is_cropped: bool,
  interpolation: str,
  share: float = CENTRE,
  upright: bool = False,
) -> np.ndarray:
  """An image file as an evaluation shows it: `centre_crop`, or `resize` where nothing is cropped."""
  if is_cropped:
    return centre_crop(data, name, size, interpolation, share, upright)
  return resize(decode(data, name, upright), size)


def _crop(
  data: bytes, name: str, size: int, choose: Callable[[int, int], Box], is_mirrored: bool, upright: bool
) -> np.ndarray:
  """Crops what `choose(height, width)` says and resizes it (bilinear, each output pixel from the nearest four)."""
  fast = decoder.fast()
  # A truncated file would be filled up with grey without a word: what does not end like a JPEG goes to Pillow.
  if fast and _END in data[-64:] and not (upright and _is_turned(data)):
    with contextlib.suppress(Exception):  # Pillow may read it, or say what is wrong
      return decoder.crop(*fast, data, size, choose, is_mirrored, _MAX_PIXELS)
  picture = _open(data, name, upright)
  top, left, height, width = choose(picture.height, picture.width)
  extent = (left, top, left + width, top + height)
  resized = picture.transform((size, size), Image.Transform.EXTENT, extent, Image.Resampling.BILINEAR)
  return np.asarray(resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if is_mirrored else resized)


def facts(data: bytes, name: str) -> tuple[int, int, int]:
  """(width, height, frames) of an image file, all of whose frames are looked up. Raises `UserError` as `decode`."""
  with _opened(data, name) as opened:
    return *opened.size, getattr(opened, 'n_frames', 1)


def orientation(data: bytes, name: str) -> int:
  """1 to 8, as the EXIF block says; 1, upright, without one that can be read. Raises `UserError` as `decode`."""
  with _opened(data, name) as opened:
    return _orientation(opened)


def _open(data: bytes, name: str, upright: bool = False) -> Image.Image:
  """A whole image in RGB. Raises `UserError` with its name."""
  with _opened(data, name) as opened:
    if 0 in opened.size:
      raise ValueError('it has no pixels')
    is_16_bit = opened.mode.startswith('I;16') or (opened.mode == 'I' and opened.format in ('PNG', 'PPM'))
    if is_16_bit:  # convert() would clip at 255
      picture = Image.fromarray((np.asarray(opened) / 257).round().astype(np.uint8)).convert('RGB')
    elif opened.mode in ('I', 'F'):
      raise ValueError('its pixels have 32 bits, and nothing says which of them is white: convert it to 8 or 16 bits')
    else:
      picture = opened.convert('RGB')
    turn = _turn_of(opened) if upright else None
    return picture if turn is None else picture.transpose(turn)


def _is_turned(data: bytes) -> bool:
  """Whether an image does not lie upright, as far as its EXIF block can be read."""
  if b'Exif' in data:
    with contextlib.suppress(Exception), Image.open(io.BytesIO(data)) as opened:
      return _turn_of(opened) is not None
  return False


def _turn_of(opened: Image.Image) -> Image.Transpose | None:
  """What turns it upright; None: nothing."""
  return _TURNS.get(_orientation(opened))


def _orientation(opened: Image.Image) -> int:
  with contextlib.suppress(Exception):  # a broken EXIF block does not concern the pixels
    found = opened.getexif().get(ExifTags.Base.Orientation, 1)
    return found if found in _TURNS else 1
  return 1


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
