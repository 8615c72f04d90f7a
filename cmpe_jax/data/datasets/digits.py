"""The handwritten digits that scikit-learn ships: the dataset that needs no download and prepares itself."""

import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from cmpe_jax.data.datasets.tfds import TfdsDataset
from cmpe_jax.data.preparation import install

IMAGE_SIZE = 16
COUNTS = {'train': 1433, 'test': 364}
TEST_EVERY = 5  # in each class the examples 0, 5, 10, ... are the test split


class Digits(tfds.core.GeneratorBasedBuilder):
  """1,797 digits of 8x8 pixels with values 0..16 (UCI "optical recognition of handwritten digits").

  They are scaled to 0..255 and enlarged to 16x16 (bicubic), so that the last stage of a small residual network
  still sees 4x4 positions. The split is fixed and stratified: of each class, every fifth example is for the test.
  """

  VERSION = tfds.core.Version('1.0.0')
  pkg_dir_path = pathlib.Path(__file__).parent  # without it TFDS looks for files beside the module, and warns

  def _info(self) -> tfds.core.DatasetInfo:
    features = tfds.features.FeaturesDict(
      {
        'image': tfds.features.Image(shape=(IMAGE_SIZE, IMAGE_SIZE, 3), encoding_format='png'),
        'label': tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
      }
    )
    return tfds.core.DatasetInfo(builder=self, description=type(self).__doc__, features=features)

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    del dl_manager  # nothing to download
    return {'train': self._generate_examples('train'), 'test': self._generate_examples('test')}

  def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits  # imports SciPy: a second that only the preparation should pay

    digits = load_digits()
    seen = [0] * 10
    for position, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
      is_test = seen[label] % TEST_EVERY == 0
      seen[label] += 1
      if is_test == (split == 'test'):
        image = Image.fromarray(np.round(pixels * (255 / 16)).astype(np.uint8))
        image = image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC).convert('RGB')
        yield position, {'image': image, 'label': int(label)}


class HandwrittenDigits(TfdsDataset):
  """The digits as a dataset. They are not mirrored: a mirrored 2 is no 2."""

  def __init__(self) -> None:
    super().__init__('digits', 10, IMAGE_SIZE, (0.305,) * 3, (0.376,) * 3, 'crop', COUNTS)

  def class_names(self, root: pathlib.Path) -> tuple[str, ...]:
    """Known before anything is prepared."""
    del root
    return tuple(str(digit) for digit in range(self.num_classes))

  def write(self, staging: pathlib.Path, root: pathlib.Path, request: install.Request) -> None:
    """Silently: this happens by itself, in a second, when somebody trains for the first time."""
    del root, request
    tfds.disable_progress_bar()
    try:
      Digits(data_dir=staging, file_format='array_record').download_and_prepare()
    finally:
      tfds.enable_progress_bar()

  def unprepared(self, root: pathlib.Path, shorter_side: int) -> pathlib.Path:
    """Prepares them."""
    del shorter_side
    return install.prepare(self, root, install.Request())
