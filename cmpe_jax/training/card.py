"""The model card of weights that travel: README.md, with the front matter that the Hugging Face Hub reads."""

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from typing import Any

import ml_collections

import cmpe_jax
from cmpe_jax.data.datasets import known_folders
from cmpe_jax.training.rerun import command, dataset_name, without_place
from cmpe_jax.training.trained import Trained

MARK = 'library_name: cmpe_jax\n'


@dataclasses.dataclass(frozen=True)
class Figures:
  """What an evaluation found.

  Attributes:
    part: 'test', or 'validation': the part of the training images that was held out.
    values: {'accuracy', 'top5', 'loss', 'count'}.
  """

  part: str
  values: dict[str, float]


def figures(
  lines: Sequence[dict[str, Any]], step: int, config: ml_collections.ConfigDict, checkpoint: str
) -> Figures | None:
  """Those of the checkpoint of `step`, from the lines of metrics.jsonl; None if it was not evaluated."""
  averaged = config.ema_decay > 0
  found: dict[str, float] = {}
  for line in lines:
    if line['step'] == step:
      found |= _values(line, 'eval_ema' if averaged else 'eval')
  if not config.validation:
    return Figures('test', found) if found else None
  tested = [line for line in lines if 'test/accuracy' in line]
  newest = max((line['step'] for line in lines), default=0)
  if tested and checkpoint == 'best' and tested[-1]['step'] == newest:  # else the run went on, and another may be best
    return Figures('test', _values(tested[-1], 'test'))
  return Figures('validation', found) if found else None


def _values(line: dict[str, Any], group: str) -> dict[str, float]:
  return {name.removeprefix(f'{group}/'): value for name, value in line.items() if name.startswith(f'{group}/')}


def is_one(text: str) -> bool:
  """Whether a README.md was written by `text`, for whatever weights."""
  return text.startswith('---\n') and MARK in text.split('\n---\n')[0] + '\n'


def which(config: ml_collections.ConfigDict) -> str:
  """Which weights of a run `load_model` gives."""
  if config.ema_decay:
    return f'moving averages of the trained ones (ema_decay={config.ema_decay:g})'
  return 'as trained'


def architecture(config: ml_collections.ConfigDict) -> str:
  """What a network is called where it comes from, or here: 'resnet20_pair_1x1', 'wide_resnet28_10_se'."""
  model = config.model
  width = f'_{model.width}' if model.backbone == 'wide_resnet' else ''
  return config.architecture or f'{model.backbone}{model.depth}{width}_{model.gate}'


def text(name: str, run: Trained, step: int, figures: Figures | None, license: str, notes: str) -> str:
  """README.md.

  Args:
    name: of the weights.
    run: that they are from.
    step: of the checkpoint.
    figures: of these weights.
    license: of the weights, as the Hub calls it.
    notes: for the section on limits.
  """
  config = run.config
  sections = {
    'Use': _USE.format(name=name),
    'Data': _data(run),
    'Training': _training(run, step),
    'Figures': _figures(figures),
    'Limits': _limits(run, notes),
    'Licence': _licence(config, license),
  }
  body = '\n'.join(f'## {title}\n\n{content.strip()}\n' for title, content in sections.items())
  return f'{_front_matter(name, config, figures, license)}\n# {name}\n\n{_summary(config, step)}\n{body}'


_USE = """
```python
import jax
import cmpe_jax

network = cmpe_jax.from_pretrained('{name}')  # or the path of this folder, or USER/NAME on the Hub
image = network.square(open('photo.jpg', 'rb').read(), 'photo.jpg')  # uint8 [H, W, 3], as in an evaluation
logits = jax.jit(network.logits)(network.variables, image[None])
print(network.names[int(logits.argmax())])
```

`python -m cmpe_jax.tools.predict --pretrained={name} photo.jpg` does the same. config.json has all that another program
needs to know of the images and of the arrays in model.safetensors.
"""


def _front_matter(name: str, config: ml_collections.ConfigDict, figures: Figures | None, license: str) -> str:
  """What the Hub reads; strings as JSON, which YAML understands."""
  lines = ['---', MARK.strip(), f'license: {json.dumps(license)}', 'pipeline_tag: image-classification', 'tags:']
  lines += [f'- {tag}' for tag in ('image-classification', 'jax', 'flax', 'squeeze-and-excitation', 'cmpe-se')]
  if figures:
    dataset = dataset_name(config.dataset)
    lines += [
      'metrics:',
      '- accuracy',
      'model-index:',
      f'- name: {json.dumps(name)}',
      '  results:',
      '  - task:',
      '      type: image-classification',
      '    dataset:',
      f'      name: {json.dumps(dataset)}',
      f'      type: {json.dumps(dataset)}',
      f'      split: {figures.part}',
      '    metrics:',
      '    - type: accuracy',
      f'      value: {figures.values["accuracy"]!r}',
    ]
  return '\n'.join([*lines, '---', ''])


def _summary(config: ml_collections.ConfigDict, step: int) -> str:
  model, origin = config.model, f'trained on {dataset_name(config.dataset)}'
  if config.architecture:
    origin = f'with the weights of {config.architecture}, converted' + (f' and then {origin}' if step else '')
  gate = f'the gate {model.gate}' if model.gate != 'none' else 'no gate'
  return _paragraph(
    f'`{architecture(config)}`: {model.backbone} of depth {model.depth} with {gate}'
    f' ([CMPE-SE](https://arxiv.org/abs/1807.08920)), {origin}. Written by cmpe_jax {cmpe_jax.__version__}.'
  )


def _data(run: Trained) -> str:
  config, dataset = run.config, run.dataset
  held = f' ({config.validation:.0%} of them held out)' if config.validation else ''
  names = ', '.join(run.names[:10]) + (', ...' if len(run.names) > 10 else '')
  cropped = f'{config.eval_interpolation}, the central {config.eval_crop:.3g} of the shorter side'
  origin = (
    f'{dataset_name(config.dataset)}: {dataset.counts["train"]:,} images to train on{held}, '
    f'{dataset.counts["test"]:,} to test on, {dataset.num_classes} classes: {names}.'
  )
  shown = (
    f'An image is resized to {dataset.image_size}x{dataset.image_size} pixels '
    f'({cropped if dataset.is_cropped else "bilinear, the central square"}), and its values / 255 are normalized by '
    f'mean {_three(dataset.mean)} and deviation {_three(dataset.std)}.'
  )
  _, known = known_folders.known(dataset)
  return '\n'.join(_paragraph(each) for each in (origin, known, shown) if each)


def _training(run: Trained, step: int) -> str:
  config = run.config
  if not step:
    return 'Nothing was trained here: these are weights from elsewhere.'
  base = config.learning_rate_batch_size
  optional = {'label smoothing': config.label_smoothing, 'mixup alpha': config.mixup_alpha}
  parts = [
    f'{step:,} steps of {config.batch_size} images',
    f'from the weights {without_place(config.init_from)}' if config.init_from else '',
    f'augmentation {run.dataset.augmentation}',
    f'SGD with momentum {config.momentum:g}',
    f'rate {config.learning_rate:g}{f" per {base} images" if base else ""} ({config.schedule})',
    f'weight decay {config.weight_decay:g}',
    *(f'{name} {value:g}' for name, value in optional.items() if value),
    f'{config.dtype}, seed {config.seed}',
  ]
  said = f'{", ".join(filter(None, parts))}. The weights are {which(config)}.'
  return f'{_paragraph(said)}\n```sh\n{command(config)}\n```'


def _figures(figures: Figures | None) -> str:
  if not figures:
    return 'These weights were not evaluated by the run that they are from.'
  values = figures.values
  return (
    '| images | number | accuracy | top-5 accuracy | loss |\n|---|---|---|---|---|\n'
    f'| {figures.part} | {values["count"]:,.0f} | {values["accuracy"]:.2%} | {values["top5"]:.2%} '
    f'| {values["loss"]:.4f} |'
  )


def _limits(run: Trained, notes: str) -> str:
  dataset = run.dataset
  return _paragraph(
    f'Every image is seen as {dataset.image_size}x{dataset.image_size} pixels, and the answer is always one of the '
    f'{dataset.num_classes} classes: of something else one of them is named all the same. The figures are of the '
    f'images named above and of no others. {notes}'
  )


def _licence(config: ml_collections.ConfigDict, license: str) -> str:
  said = 'Not stated: ask who gave you these weights.' if license == 'unknown' else f'{license}.'
  return said + (' That of the weights that they were converted from holds too.' if config.architecture else '')


def _three(values: Sequence[float]) -> str:
  return '(' + ', '.join(f'{value:g}' for value in values) + ')'


def _paragraph(text: str) -> str:
  return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + '\n'
