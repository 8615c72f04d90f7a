"""Arrays of other libraries in our layout."""

import ml_collections
import numpy as np


def with_classes(
  model_config: ml_collections.ConfigDict, arrays: dict[str, np.ndarray], bias: str
) -> ml_collections.ConfigDict:
  """A copy of `config.model` whose `num_classes`, if 0, is that of a file, whose classifier's bias is called `bias`."""
  config = model_config.copy_and_resolve_references()
  if not config.num_classes and bias in arrays:
    config.num_classes = len(arrays[bias])
  return config


def to_ours(theirs: np.ndarray, ndim: int) -> np.ndarray:
  """Transposes (out, in, kh, kw) to (kh, kw, in, out), and (out, in) or (out, in, 1, 1) to (in, out); as float32.

  `ndim`: of our array, which tells a dense kernel from a 1x1 convolution.
  """
  if ndim == 2 and theirs.ndim == 4 and theirs.shape[2:] == (1, 1):
    theirs = theirs[:, :, 0, 0]
  if theirs.ndim == 4:
    theirs = theirs.transpose(2, 3, 1, 0)
  elif theirs.ndim == 2:
    theirs = theirs.T
  return np.ascontiguousarray(theirs, np.float32)
