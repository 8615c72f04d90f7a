"""PyTorch weights of timm's and torchvision's ResNets and timm's SE-ResNets: state dicts as .safetensors or .pth files.

timm's `resnet*` and `seresnet*` are our `imagenet_resnet` with preact=False: stride in the 3x3, epsilon 1e-5. Kernels
are (out, in, kh, kw) and (out, in) there. Their SE layers have biases (model.gate_bias=True).
"""

import json
import operator
import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np
import safetensors
import safetensors.numpy

from cmpe_jax.errors import UserError
from cmpe_jax.models import builder, initializers, paths
from cmpe_jax.tools.convert.arrays import to_ours, with_classes

TOPS = {'stem': 'conv1', 'stem_bn': 'bn1', paths.CLASSIFIER: 'fc'}
LAYERS = {'shortcut': 'downsample.0', 'shortcut_bn': 'downsample.1', 'squeeze': 'se.fc1', 'excite': 'se.fc2'}
LEAVES = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}


def file(path: str) -> str:
  """The file of weights: `path` itself, or that in a folder as timm writes it and the Hub keeps it."""
  folder = pathlib.Path(path)
  return str(folder / 'model.safetensors') if folder.is_dir() else path


def described(path: str) -> dict[str, Any]:
  """What timm's config.json beside a file of weights says, as keys of our configuration; {} without one.

  Returns:
    `architecture` with its tag, `image_size`, `pixel_mean`, `pixel_std`, `eval_crop`, `eval_interpolation`.

  Raises:
    UserError: it cannot be read, or asks for images that cannot be shown so.
  """
  place = pathlib.Path(path).parent / 'config.json'
  if not place.exists():
    return {}
  try:
    about = json.loads(place.read_text())
    shown = about['pretrained_cfg']
    found = {
      'architecture': '.'.join(filter(None, [about['architecture'], shown.get('tag')])),
      'image_size': operator.index(shown['input_size'][-1]),
      'pixel_mean': tuple(map(float, shown['mean'])),
      'pixel_std': tuple(map(float, shown['std'])),
      'eval_crop': float(shown['crop_pct']),
      'eval_interpolation': shown['interpolation'],
    }
  except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
    raise UserError(
      f"{place} is not timm's ({type(error).__name__}: {error}): remove it, and give what it should say by --config."
    ) from error
  if found['eval_interpolation'] not in ('bilinear', 'bicubic') or shown.get('crop_mode', 'center') != 'center':
    raise UserError(
      f'{place}: interpolation={found["eval_interpolation"]!r} with crop_mode={shown.get("crop_mode")!r} is not known '
      'here: remove the file to show images as the dataset does.'
    )
  return found


def read(path: str) -> dict[str, np.ndarray]:
  """The arrays of a state dict by name, as float32.

  A .safetensors file needs no PyTorch. Any other file is PyTorch's own format, a zip of a pickle and arrays: PyTorch
  reads it with weights_only=True, which builds tensors and nothing else, so that no code in the file is ever run.

  Raises:
    UserError: not such a file; PyTorch is needed and missing.
  """
  try:
    if pathlib.Path(path).suffix == '.safetensors':
      state = dict(safetensors.numpy.load_file(path))
    else:
      state = {name: tensor.float().numpy() for name, tensor in _read_torch(path).items()}
  except FileNotFoundError:
    raise UserError(f'{path} does not exist: give a .safetensors or .pth file.') from None
  except (OSError, TypeError, AttributeError, safetensors.SafetensorError) as error:  # types that NumPy lacks, too
    raise UserError(f'{path} is not a readable state dict ({error}). Save it again as .safetensors.') from error
  return {name: array for name, array in state.items() if not name.endswith('num_batches_tracked')}


def _read_torch(path: str) -> dict[str, Any]:
  """Tensors by name, also from a checkpoint that holds them under 'state_dict' or 'model'."""
  try:
    import torch
  except ImportError as error:
    raise UserError(
      f'{path}: reading a .pth file needs PyTorch (pip install -r requirements-peer.txt); a .safetensors file does not.'
    ) from error
  import pickle

  try:
    loaded = torch.load(path, map_location='cpu', weights_only=True)
  except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise UserError(
      f'{path} holds something else than tensors, or is no PyTorch file ({first}). It was not executed. '
      'Save the state dict alone, as .safetensors.'
    ) from error
  for key in ('state_dict', 'model'):
    if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
      loaded = loaded[key]
  if not isinstance(loaded, dict) or not loaded or not all(isinstance(x, torch.Tensor) for x in loaded.values()):
    raise UserError(f'{path} does not hold a state dict (names and tensors). Save model.state_dict().')
  return loaded


def from_timm(path: str, model_config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Our variables from a PyTorch state dict.

  Args:
    path: a .safetensors or .pth file of timm's resnet18/34/50/101/152 or seresnet50/101/152 (or torchvision's resnet*).
    model_config: `config.model` of the same network: backbone 'imagenet_resnet', preact False, gate 'none', or 'se'
      with gate_bias True. `num_classes` 0 takes the file's.

  Returns:
    The collections 'params' and 'batch_stats', nested dicts of float32 NumPy arrays.

  Raises:
    UserError: unreadable file; names or shapes that do not match, both lists in full.
  """
  arrays = read(path)
  config = with_classes(model_config, arrays, 'fc.bias')
  _check_network(config)
  template = initializers.init(builder.build(config), jax.random.key(0), image_size=64)
  leaves, structure = jax.tree_util.tree_flatten_with_path(template)
  wanted = {timm_name([part.key for part in place][1:]): leaf for place, leaf in leaves}
  values = {name: to_ours(arrays[name], leaf.ndim) for name, leaf in wanted.items() if name in arrays}
  lines = [f'  - {name} (missing in the file)' for name in sorted(set(wanted) - set(arrays))]
  lines += [f'  + {name} {list(arrays[name].shape)} (unmatched)' for name in sorted(set(arrays) - set(wanted))]
  lines += [
    f'  {name}: {list(values[name].shape)} in the file, {list(leaf.shape)} here'
    for name, leaf in wanted.items()
    if name in values and values[name].shape != leaf.shape
  ]
  if lines:
    raise UserError(f'{path} does not hold the network of this config.model:\n' + '\n'.join(lines))
  return jax.tree_util.tree_unflatten(structure, [values[name] for name in wanted])


def _check_network(config: ml_collections.ConfigDict) -> None:
  if config.backbone != 'imagenet_resnet' or config.preact:
    raise UserError(
      f'model.backbone={config.backbone!r} with model.preact={config.preact} is not the network of such files: set '
      "model.backbone='imagenet_resnet' and model.preact=False (configs/imagenet_resnet50.py)."
    )
  if config.gate not in ('none', 'se') or (config.gate == 'se' and not config.gate_bias):
    raise UserError(
      f'model.gate={config.gate!r} with model.gate_bias={config.gate_bias} is not what such files hold: set '
      "model.gate='none' (resnet*) or model.gate='se' with model.gate_bias=True (seresnet*). "
      'Another gate can start from the result by config.init_from.'
    )


def timm_name(parts: list[str]) -> str:
  """Their name of our parameter or statistic at a path such as ['stage1_block0', 'gate', 'squeeze', 'kernel']."""
  *modules, leaf = parts
  block = paths.block_of(modules[0])
  layer = LAYERS.get(modules[-1], modules[-1]) if block else TOPS[modules[0]]
  return '.'.join([*([f'layer{block[0]}', str(block[1])] if block else []), layer, LEAVES[leaf]])
