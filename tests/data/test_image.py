"""Decoding and cropping on the host, with both decoders."""

import io
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from cmpe_jax.data import decoder as codecs
from cmpe_jax.data import image, order
from cmpe_jax.errors import UserError

HEIGHT, WIDTH = 240, 320


def encode(picture: Image.Image, form: str = 'JPEG', **options) -> bytes:
  file = io.BytesIO()
  picture.save(file, form, **options)
  return file.getvalue()


@pytest.fixture(params=['fast', 'pillow'])
def decoder(request, monkeypatch):
  if request.param == 'pillow':
    monkeypatch.setattr(codecs, 'fast', lambda: None)
  elif codecs.fast() is None:
    pytest.skip('nvImageCodec or OpenCV is not installed')
  return request.param


def ramp() -> Image.Image:
  """Red rises by 0.7 a column, green by 0.9 a row: the mean of a crop tells where it was."""
  rows, columns = np.mgrid[:HEIGHT, :WIDTH]
  return Image.fromarray(np.stack([0.7 * columns, 0.9 * rows, 0 * rows + 90], -1).round().astype(np.uint8))


@pytest.mark.parametrize('share', [224 / 256, 0.95, 1.0])
@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
@pytest.mark.parametrize(('name', 'height', 'width'), [('wide', 75, 110), ('tall', 131, 90), ('square', 97, 97)])
def test_centre_crop_is_that_of_timm(name, height, width, interpolation, share, decoder):
  """What `timm.data.create_transform(32, interpolation=..., crop_pct=share)` of timm 1.0.31 made of random pixels."""
  pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
  with np.load(pathlib.Path(__file__).parents[1] / 'golden' / 'timm_centre_crops.npz') as golden:
    expected = golden[f'{name}_{interpolation}' + (f'_{share}' if share != image.CENTRE else '')]
  result = image.centre_crop(encode(Image.fromarray(pixels), 'PNG'), name, 32, interpolation, share)
  np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic', 'four_pixels'])
def test_random_crops_of_a_large_photo_average_where_asked(interpolation, decoder):
  """Of black and white pixels in turns, 40 a pixel of the crop, the mean is grey; single pixels are black or white."""
  pixels = np.zeros((1280, 1280, 3), np.uint8)
  pixels[::2, ::2] = pixels[1::2, 1::2] = 255
  data = encode(Image.fromarray(pixels), 'PNG')
  crops = [image.random_crop(data, 'board', 8, order.augmentation(0, 0, i), interpolation) for i in range(8)]
  distance = abs(np.array(crops).astype(int) - 127.5).mean()
  assert distance > 20 if interpolation == 'four_pixels' else distance < 3


def test_a_centre_crop_of_four_pixels_is_resize_256_crop_224(decoder):
  """On a linear ramp the resampling filter does not matter: compare with Pillow's resize and crop, in two steps."""
  size = 256 * WIDTH // HEIGHT, 256
  resized = ramp().resize(size, Image.Resampling.BICUBIC)
  left, top = (size[0] - 224) // 2, 16
  expected = np.asarray(resized.crop((left, top, left + 224, top + 224)), float)
  result = image.centre_crop(encode(ramp(), quality=98), 'ramp', 224, 'four_pixels')
  assert result.shape == (224, 224, 3)
  assert result.dtype == np.uint8
  assert abs(result - expected).max() < 5
  assert abs((result - expected).mean()) < 0.5


@pytest.mark.parametrize('share', [0.5, 1.0])
def test_a_centre_crop_of_four_pixels_shows_its_share(share, decoder):
  """From the ramp's slope: between the first and the last of n pixels of a crop lie (n - 1) / n of its side."""
  result = image.centre_crop(encode(ramp(), quality=98), 'ramp', 32, 'four_pixels', share).astype(float)
  span = (result[:, -1, 0] - result[:, 0, 0]).mean()
  assert span == pytest.approx(0.7 * share * HEIGHT * 31 / 32, abs=1.5)


def test_random_crop_shows_its_box(decoder):
  """The centre of the crop has the ramp's values at the centre of the box; mirrored ones fall to the right."""
  data = encode(ramp(), quality=98)
  mirrored = 0
  for example in range(60):
    result = image.random_crop(data, 'ramp', 64, order.augmentation(0, 0, example)).astype(float)
    generator = order.augmentation(0, 0, example)
    is_mirrored = generator.random() < 0.5
    top, left, height, width = image.random_box(HEIGHT, WIDTH, generator)
    expected = [0.7 * (left + (width - 1) / 2), 0.9 * (top + (height - 1) / 2), 90]
    np.testing.assert_allclose(result.mean((0, 1)), expected, atol=2.5)
    assert (result[:, -8:, 0].mean() < result[:, :8, 0].mean()) == is_mirrored
    mirrored += is_mirrored
  assert 15 < mirrored < 45


def test_random_box_statistics():
  """Area uniform in 8-100% and ratio log-uniform in 3/4-4/3, as far as the crop fits; checked on a large square."""
  boxes = [image.random_box(1000, 1000, order.augmentation(1, 0, example)) for example in range(4000)]
  top, left, height, width = np.array(boxes).T
  assert (top >= 0).all()
  assert (left >= 0).all()
  assert (top + height <= 1000).all()
  assert (left + width <= 1000).all()
  area, ratio = height * width / 1e6, width / height
  assert 0.0795 < area.min() < 0.1
  assert area.max() > 0.97
  assert abs(np.log(ratio).mean()) < 0.01
  assert ratio.min() > 0.745
  assert ratio.max() < 1.34
  small = area[area < 0.5]  # these always fit, so they are uniform: mean (0.08 + 0.5) / 2
  assert abs(small.mean() - 0.29) < 0.01
  # The place is uniform among those possible.
  free = height < 900
  assert abs((top[free] / (1000 - height[free])).mean() - 0.5) < 0.02


def test_extreme_shapes():
  """Nothing of ratio 3/4..4/3 and 8% of the area fits into a strip: the largest centred crop is taken."""
  assert image.random_box(10, 1000, order.augmentation(0, 0, 0)) == (0, (1000 - 13) // 2, 10, 13)
  assert image.random_box(1000, 10, order.augmentation(0, 0, 0)) == ((1000 - 13) // 2, 0, 13, 10)
  assert image.random_box(1, 1, order.augmentation(0, 0, 0)) == (0, 0, 1, 1)
  assert image.centre_box(1, 1) == (0, 0, 1, 1)


@pytest.mark.parametrize(
  'kind', ['grey', 'cmyk', 'progressive', 'png in jpeg', 'palette', 'alpha', '16 bit', 'rotated']
)
def test_unusual_files(kind, decoder):
  """Every kind gives the picture of the plain file; an EXIF orientation is ignored unless it is asked for."""
  picture = ramp()
  exif = Image.Exif()
  exif[0x0112] = 6
  data, reference = {
    'grey': lambda: (encode(picture.convert('L')), picture.convert('L').convert('RGB')),
    'cmyk': lambda: (encode(picture.convert('CMYK'), quality=95), picture),
    'progressive': lambda: (encode(picture, progressive=True), picture),
    'png in jpeg': lambda: (encode(picture, 'PNG'), picture),
    'palette': lambda: (encode(picture.convert('P', palette=Image.Palette.ADAPTIVE), 'GIF'), picture),
    'alpha': lambda: (encode(picture.convert('RGBA'), 'PNG'), picture),
    '16 bit': lambda: (encode(picture, 'TIFF'), picture),
    'rotated': lambda: (encode(picture, exif=exif), picture),
  }[kind]()
  expected = image.centre_crop(encode(reference, 'PNG'), 'reference', 96).astype(float)
  result = image.centre_crop(data, kind, 96)
  assert abs(result - expected).mean() < 4
  assert image.decode(data, kind).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize('read', [image.decode, lambda data, name: image.centre_crop(data, name, 32)])
def test_broken_files_are_named(read, decoder):
  whole = encode(ramp())
  for data in (b'', b'not an image', whole[: len(whole) // 2], whole[:-30], encode(ramp(), 'PNG')[:500]):
    with pytest.raises(UserError, match=r'photo7\.jpg is not a readable image'):
      read(data, 'photo7.jpg')


def test_decoders_agree(monkeypatch):
  if codecs.fast() is None:
    pytest.skip('nvImageCodec or OpenCV is not installed')
  generator = np.random.default_rng(0)
  smooth = Image.fromarray(generator.integers(0, 256, (12, 16, 3), np.uint8)).resize(
    (WIDTH, HEIGHT), Image.Resampling.BICUBIC
  )
  data = encode(smooth, quality=95)
  fast = [image.random_crop(data, 'x', 64, order.augmentation(0, 0, i)).astype(int) for i in range(10)]
  monkeypatch.setattr(codecs, 'fast', lambda: None)
  pillow = [image.random_crop(data, 'x', 64, order.augmentation(0, 0, i)) for i in range(10)]
  assert np.mean([abs(a - b).mean() for a, b in zip(fast, pillow, strict=True)]) < 1


@pytest.mark.parametrize('turn', range(1, 9))
def test_upright_images_are_turned_as_pillow_turns_them(turn, decoder):
  exif = Image.Exif()
  exif[0x0112] = turn
  for kind, options in (('JPEG', {'quality': 95}), ('PNG', {}), ('WEBP', {'lossless': True})):
    data = encode(ramp(), kind, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as opened:
      turned = ImageOps.exif_transpose(opened).convert('RGB')
    plain = encode(turned, 'PNG')
    np.testing.assert_array_equal(image.decode(data, kind, upright=True), np.asarray(turned))
    for way in ('bilinear', 'four_pixels'):
      # The fast decoder is left to those that need no turn; it differs by a few grey levels.
      limit = 2 if way == 'four_pixels' and turn == 1 else 0
      crops = [image.centre_crop(given, kind, 48, way, upright=True).astype(int) for given in (data, plain)]
      assert abs(crops[0] - crops[1]).mean() <= limit
      crops = [
        image.random_crop(given, kind, 48, order.augmentation(0, 0, 3), way, upright=True).astype(int)
        for given in (data, plain)
      ]
      assert abs(crops[0] - crops[1]).mean() <= limit


def test_a_broken_exif_block_does_not_concern_the_pixels(decoder):
  exif = Image.Exif()
  exif[0x0112] = 6
  data = encode(ramp(), exif=exif)
  at = data.index(b'Exif') + 6
  broken = data[:at] + b'??' + data[at + 2 :]
  np.testing.assert_array_equal(image.decode(broken, 'x', upright=True), image.decode(broken, 'x'))
  assert image.centre_crop(broken, 'x', 48, 'four_pixels', upright=True).shape == (48, 48, 3)


def test_threads_that_load_the_decoders_at_once_leave_stderr_as_it_was():
  script = """
import sys, threading
from cmpe_jax.data import decoder
threads = [threading.Thread(target=decoder.load) for _ in range(8)]
for thread in threads:
  thread.start()
for thread in threads:
  thread.join()
print('heard', file=sys.stderr)
"""
  done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, timeout=200)
  assert done.stderr == 'heard\n'


def test_resize_takes_the_centred_square():
  pixels = np.zeros((32, 64, 3), np.uint8)
  pixels[:, 16:48] = 200
  assert (image.resize(pixels, 32) == 200).all()
  assert image.resize(pixels, 8).shape == (8, 8, 3)
  assert (image.resize(pixels, 8)[2:6, 2:6] == 200).all()


def test_more_than_8_bits_are_scaled_or_refused():
  """Pillow would clip them: nearly all of a picture white, without a word."""
  ramp = np.arange(0, 65_536, dtype=np.uint16).reshape(256, 256)
  expected = np.arange(0, 65_536).reshape(256, 256) / 257
  pgm = b'P5 256 256 65535\n' + ramp.astype('>u2').tobytes()
  for data in (pgm, encode(Image.fromarray(ramp), 'PNG'), encode(Image.fromarray(ramp), 'TIFF')):
    pixels = image.decode(data, 'ramp')
    assert np.abs(pixels - expected[..., None]).max() <= 0.5
  for kind in (np.int32, np.float32):
    with pytest.raises(UserError, match=r'ramp is not a readable image \(its pixels have 32 bits.*convert it to 8'):
      image.decode(encode(Image.fromarray(ramp.astype(kind)), 'TIFF'), 'ramp')
