"""The handwritten digits that scikit-learn ships, as a TFDS builder: the dataset that needs no download."""

import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

NAME = 'digits'
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
