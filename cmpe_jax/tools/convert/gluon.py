"""The authors' parameter files: MXNet Gluon's `save_parameters` format, read without MXNet.

Layout (little endian): u64 magic 0x112, u64 reserved, u64 number of arrays; an array is u32 version, i32 storage type,
i32 ndim, ndim i64 sizes, i32 device type, i32 device id, i32 dtype, raw data; then u64 number of names, each u64 length
and bytes. Convolution kernels are (out, in, kh, kw), dense ones (out, in).
"""

import math
import pathlib
import struct
from typing import Any

import jax
import ml_collections
import numpy as np

from cmpe_jax.errors import UserError
from cmpe_jax.models import builder, gates, initializers, paths
from cmpe_jax.tools.convert.arrays import to_ours, with_classes

MAGIC = 0x112
ARRAY_VERSIONS = (0xF993FAC9, 0xF993FACA)
DTYPES = {0: np.float32, 1: np.float64, 2: np.float16}
LEAF_NAMES = {'kernel': 'weight', 'scale': 'gamma', 'bias': 'beta', 'mean': 'running_mean', 'var': 'running_var'}


class _Reader:
  """Reads little-endian fields and says where a file ends too early."""

  def __init__(self, path: pathlib.Path) -> None:
    self.path = path
    try:
      self.data = path.read_bytes()
    except OSError as error:
      raise UserError(
        f'cannot read the parameter file {path}: {error.strerror}. Give the path of a .params file.'
      ) from None
    self.offset = 0

  def take(self, size: int) -> bytes:
    if size < 0 or self.offset + size > len(self.data):
      raise UserError(
        f'{self.path} ends at byte {len(self.data)}, where {size} more were expected after byte {self.offset}: '
        'the file is truncated or not a Gluon parameter file. Copy it again.'
      )
    self.offset += size
    return self.data[self.offset - size : self.offset]

  def fields(self, layout: str) -> tuple[Any, ...]:
    return struct.unpack('<' + layout, self.take(struct.calcsize('<' + layout)))

  def array(self) -> np.ndarray:
    version, storage, ndim = self.fields('Iii')
    if version not in ARRAY_VERSIONS or storage != 0 or not 0 <= ndim <= 8:
      raise UserError(
        f'{self.path}: array at byte {self.offset} is not a dense array of a known version ({version:#x}).'
      )
    shape = self.fields(f'{ndim}q')
    _, _, kind = self.fields('iii')
    if kind not in DTYPES:
      raise UserError(f'{self.path}: array at byte {self.offset} has type code {kind}; known are {sorted(DTYPES)}.')
    dtype = np.dtype(DTYPES[kind]).newbyteorder('<')
    if min(shape, default=0) < 0:
      raise UserError(f'{self.path}: array at byte {self.offset} has the shape {shape}: the file is damaged.')
    return np.frombuffer(self.take(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)


def read(path: str) -> dict[str, np.ndarray]:
  """The arrays of a Gluon parameter file by name. Raises `UserError` if it is not one or is cut short."""
  reader = _Reader(pathlib.Path(path))
  magic, _, count = reader.fields('QQQ')
  if magic != MAGIC:
    raise UserError(f'{path} is not a Gluon parameter file: it starts with {magic:#x}, not with {MAGIC:#x}.')
  arrays = [reader.array() for _ in range(count)]
  (names,) = reader.fields('Q')
  if names != count:
    raise UserError(f'{path} has {count} arrays and {names} names: save it again with save_parameters.')
  try:
    return {reader.take(*reader.fields('Q')).decode(): array for array in arrays}
  except UnicodeDecodeError as error:
    raise UserError(f'{path} has a name that is no text: the file is damaged.') from error


def from_gluon(path: str, model_config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Our variables from the authors' file.

  Args:
    path: a file that Gluon's `save_parameters` wrote for one of the authors' 32x32 networks.
    model_config: `config.model` of the same network; `num_classes` 0 takes the file's.

  Returns:
    The collections 'params' and 'batch_stats', nested dicts of float32 NumPy arrays.

  Raises:
    UserError: unreadable file; names or shapes that do not match, both lists in full.
  """
  arrays = read(path)
  config = with_classes(model_config, arrays, 'output.bias')
  if config.backbone == 'imagenet_resnet' or config.gate_bias:
    raise UserError(
      "the authors' files hold 32x32 ResNets and Wide ResNets without gate biases: give such a config.model."
    )
  gate = gates.find(config.gate)
  if gate and not gate.authors_names:
    raise UserError(f"the authors have no gate like model.gate={config.gate!r}: give the one of the file's network.")
  template = initializers.init(builder.build(config), jax.random.key(0), image_size=32)
  leaves, structure = jax.tree_util.tree_flatten_with_path(template)
  wanted = {gluon_name([part.key for part in path][1:], config): leaf for path, leaf in leaves}
  frozen = {'features.0.gamma', 'features.0.beta'}
  missing, unmatched = sorted(set(wanted) - set(arrays)), sorted(set(arrays) - set(wanted) - frozen)
  if missing or unmatched:
    listed = [f'  - {name} (missing in the file)' for name in missing] + [
      f'  + {name} (unmatched)' for name in unmatched
    ]
    raise UserError(f'{path} does not hold the network of this config.model:\n' + '\n'.join(listed))
  if np.any(arrays.get('features.0.beta', 0)):
    raise UserError(
      f'{path}: features.0.beta is not zero, but the input normalization has no bias. Is this the right file?'
    )
  values = [_value(path, name, arrays[name], leaf) for name, leaf in wanted.items()]
  return jax.tree_util.tree_unflatten(structure, values)


def gluon_name(parts: list[str], config: ml_collections.ConfigDict) -> str:
  """Their name of our parameter or statistic at a path such as ['stage1_block0', 'conv1', 'kernel']."""
  wide = config.backbone == 'wide_resnet'
  first_stage = 3 if wide else 2
  tops = {'input_bn': 'features.0', 'stem': 'features.1', 'stem_bn': 'features.2'}
  tops |= {'final_bn': f'features.{first_stage + 3}', paths.CLASSIFIER: 'output'}
  leaf = 'bias' if parts[0] == paths.CLASSIFIER and parts[-1] == 'bias' else LEAF_NAMES[parts[-1]]
  if parts[0] in tops:
    return f'{tops[parts[0]]}.{leaf}'
  place, gate, layer = paths.block_of(parts[0]), gates.find(config.gate), parts[1]
  assert place
  stage, block = place
  if layer == paths.GATE:
    assert gate
    layer = gate.authors_names[parts[2]]
  elif layer == 'shortcut':
    layer = 'downsample' if wide else 'shortcut.0'
  return f'features.{first_stage + stage - 1}.{block}.{layer}.{leaf}'


def _value(path: str, name: str, theirs: np.ndarray, leaf: np.ndarray) -> np.ndarray:
  """Their array in our layout. Raises `UserError` unless it has the shape of `leaf`."""
  value = to_ours(theirs, leaf.ndim)
  if value.shape != leaf.shape:
    raise UserError(
      f'{path}: {name} has shape {theirs.shape}, which does not give the {leaf.shape} of this config.model.'
    )
  return value
