"""The fast decoder of JPEG files, where it is installed: only the rows and columns of a crop, on the CPU."""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Box = tuple[int, int, int, int]  # top, left, height, width in pixels
_thread = threading.local()
_loading = threading.Lock()


def crop(
  codec: Any,
  opencv: Any,
  data: bytes,
  size: int,
  choose: Callable[[int, int], Box],
  is_mirrored: bool,
  max_pixels: int,
) -> np.ndarray:
  """Crops what `choose(height, width)` says and resizes it to `size`. Raises whatever `codec` and `opencv` do."""
  stream = codec.CodeStream(data)
  if stream.height * stream.width > max_pixels:
    raise ValueError('too large')  # one wrong bit in the header would ask for all the memory there is
  top, left, height, width = choose(stream.height, stream.width)
  region = codec.Region(top, left, top + height, left + width)
  decoded = _decoder(codec).decode(stream.get_sub_code_stream(0, region=region), params=_parameters(codec))
  resized = opencv.resize(np.asarray(decoded), (size, size), interpolation=opencv.INTER_LINEAR)
  return opencv.flip(resized, 1) if is_mirrored else resized


def load() -> None:
  """Imports what decodes crops. Call it before threads do: while it runs, nobody's words reach stderr."""
  fast()


def fast() -> tuple[Any, Any] | None:
  """nvImageCodec and OpenCV, or None."""
  with _loading:  # two threads that silence stderr at once would leave it silent
    return _find()


@functools.cache
def _find() -> tuple[Any, Any] | None:
  """Importing nvImageCodec complains on stderr about CUDA libraries for the GPU."""
  try:
    with _silenced_stderr():
      import cv2
      from nvidia import nvimgcodec
  except ImportError:
    return None
  cv2.setNumThreads(0)  # the pipeline has threads of its own
  return nvimgcodec, cv2


def name() -> str:
  """Which of the two decoders is in use."""
  return 'nvImageCodec (crops while decoding)' if fast() else 'Pillow'


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
