"""Writes weights that travel: `save_pretrained('runs/digits', 'digits')`. `pretrained` reads them."""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import ml_collections
import numpy as np
import safetensors.numpy

import cmpe_jax
from cmpe_jax import config as configuration
from cmpe_jax.data import datasets
from cmpe_jax.data.datasets import known_folders
from cmpe_jax.errors import UserError
from cmpe_jax.models import paths
from cmpe_jax.runtime import files, places
from cmpe_jax.training import card, rerun, trained, writer
from cmpe_jax.training.pretrained import CARD, DESCRIPTION, LIBRARY, WEIGHTS


def save_pretrained(
  workdir: str, directory: str, checkpoint: str = 'best', license: str = 'unknown', notes: str = ''
) -> None:
  """Writes the weights of a run in the layout of the Hugging Face Hub, with a model card that is filled from the run.

  They are those that `load_model` gives: moving averages if the run kept them. `from_pretrained(directory)` reads them.

  Args:
    workdir: of the run.
    directory: where config.json, model.safetensors and README.md are written; its last part names the weights.
    checkpoint: 'best' or 'newest'.
    license: of the weights, as the Hub calls it, such as 'apache-2.0'.
    notes: what a reader of the card should know of the data or of the limits besides.

  Raises:
    UserError: no complete checkpoint; the folder cannot be written, or its README.md is not such a card.
  """
  run = by_its_name(trained.open_run(workdir, checkpoint))
  folder = pathlib.Path(directory).expanduser()
  lines = writer.read(places.place(workdir) / writer.FILE)
  figures = card.figures(lines, run.step, run.config, checkpoint)
  written = card.text(folder.resolve().name, run, run.step, figures, license, notes)
  if (folder / CARD).exists() and not card.is_one((folder / CARD).read_text(errors='replace')):
    raise UserError(f'{folder / CARD} is no card of {LIBRARY} and would be overwritten: give an empty folder.')
  write(run, folder)
  files.write(folder / CARD, written, 'directory')


def by_its_name(run: trained.Trained) -> trained.Trained:
  """A run on a class folder that anybody can have, which is called here as it is everywhere."""
  name, _ = known_folders.known(run.dataset)
  if not name:
    return run
  config = run.config.copy_and_resolve_references()
  config.dataset = datasets.FOLDER_PREFIX + name
  return dataclasses.replace(run, config=config)


def write(run: trained.Trained, folder: pathlib.Path) -> None:
  """Writes model.safetensors and config.json; what a killed process leaves of them is not taken for whole.

  Raises:
    UserError: the folder cannot be written.
  """
  about = description(run)
  try:
    data = safetensors.numpy.save(arrays(run), {'model': json.dumps(about)})
    about['sha256'] = hashlib.sha256(data).hexdigest()
    files.replace(folder / WEIGHTS, data)
    files.replace(folder / DESCRIPTION, json.dumps(about, indent=2, ensure_ascii=False) + '\n')
  except OSError as error:
    raise UserError(f'{str(folder)!r} cannot be written ({error.strerror}): give another folder.') from error


def arrays(run: trained.Trained) -> dict[str, np.ndarray]:
  """{'params/stem/kernel': ..., 'batch_stats/...': ...}, as trained: nothing folded."""
  return {name: np.asarray(leaf) for name, leaf in paths.named(run.variables).items()}


def description(run: trained.Trained) -> dict[str, Any]:
  """What one must know to use the weights: input, classes, the network and its training."""
  dataset, config = run.dataset, run.config
  size = dataset.image_size
  return {
    'library_name': LIBRARY,
    'library_version': cmpe_jax.__version__,
    'architecture': card.architecture(config),
    'weights': card.which(config),
    'input': f'uint8[batch, {size}, {size}, 3], RGB, not normalized',
    'output': f'float32[batch, {dataset.num_classes}], logits',
    'image_size': size,
    'crop_share': config.eval_crop if dataset.is_cropped else 1.0,
    'interpolation': config.eval_interpolation if dataset.is_cropped else 'bilinear',
    'normalization': {
      'mean': dataset.mean,
      'std': dataset.std,
      'note': 'of values / 255; model.stablehlo does it',
    },
    'class_names': list(run.names),
    'layout': f'{WEIGHTS}: kernels are [height, width, in, out] and [in, out]; images are [batch, height, width, 3]',
    'config': configuration.plain(_complete(config, dataset)),
  }


def _complete(config: ml_collections.ConfigDict, dataset: datasets.Dataset) -> ml_collections.ConfigDict:
  """The configuration with what the dataset decided, and without places of this machine."""
  complete = config.copy_and_resolve_references()
  complete.update(
    {
      'image_size': dataset.image_size,
      'augmentation': dataset.augmentation,
      'pixel_mean': tuple(dataset.mean),
      'pixel_std': tuple(dataset.std),
      'dataset': rerun.dataset_name(config.dataset),
      'data_dir': '',
      'init_from': rerun.without_place(config.init_from),
    }
  )
  return complete
