"""Takes a trained network out of this project: `python -m cmpe_jax.tools.export --workdir=runs/digits --output=DIR`.

Writes a program that needs JAX only (uint8 images in, logits out, any batch size, CPU, GPU and TPU), the weights for
those who have not even JAX, and a description of both.
"""

import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from jax import export

from cmpe_jax import command, metrics
from cmpe_jax import config as configs
from cmpe_jax.cache import compile_cache
from cmpe_jax.errors import UserError
from cmpe_jax.tools import inference, trained

PLATFORMS = ('cpu', 'cuda', 'tpu')
TOLERANCE = 1e-5  # of logits; relative to the largest of an image where that is larger than 1
PROGRAM, WEIGHTS, DESCRIPTION, EXAMPLE = 'model.stablehlo', 'weights.safetensors', 'model.json', 'example.py'
ONNX = 'model.onnx'
EXAMPLE_TEXT = """import pathlib
import numpy as np
from jax import export
model = export.deserialize(bytearray(pathlib.Path(__file__).with_name('{program}').read_bytes()))
print(model.call(np.zeros((3, {size}, {size}, 3), np.uint8)))  # RGB images in, logits out
"""


def program(run: trained.Trained) -> export.Exported:
  """The network as StableHLO: uint8[batch, H, W, 3] -> float32[batch, classes], normalization inside."""
  size = run.info.image_size
  (batch,) = export.symbolic_shape('batch')
  images = jax.ShapeDtypeStruct((batch, size, size, 3), np.uint8)
  return export.export(jax.jit(inference.function(run)), platforms=PLATFORMS)(images)


def difference(run: trained.Trained, call: Callable[[np.ndarray], Any], batch: int = 3) -> float:
  """Largest difference between the logits of `call` and of the model, over max(1, largest |logit|), on random images.

  What rounding does to a logit grows with the largest of its image, not with the logit itself. Both compute in float32,
  whatever type the run computed in.

  Raises:
    RuntimeError: it is more than TOLERANCE: `call` does not compute what the model computes.
  """
  size = run.info.image_size
  images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3)).astype(np.uint8)
  model = trained.single_precision(run)
  want = np.asarray(jax.jit(model.logits)(model.variables, images))
  found = float((np.abs(np.asarray(call(images)) - want) / np.maximum(1, np.abs(want).max(1, keepdims=True))).max())
  if not found <= TOLERANCE:
    raise RuntimeError(f'the exported program differs from the model by {found:.1e}, more than {TOLERANCE}.')
  return found


def weights(run: trained.Trained) -> dict[str, np.ndarray]:
  """{'params/stem/kernel': ..., 'batch_stats/...': ...}, as trained: nothing folded."""
  flat, _ = jax.tree_util.tree_flatten_with_path(run.variables)
  return {'/'.join(part.key for part in path): np.asarray(leaf) for path, leaf in flat}


def description(run: trained.Trained) -> dict[str, Any]:
  """What one must know to use the files: input, classes, the network and its training."""
  info = run.info
  return {
    'input': f'uint8[batch, {info.image_size}, {info.image_size}, 3], RGB, not normalized',
    'output': f'float32[batch, {info.num_classes}], logits',
    'class_names': list(run.names),
    'normalization': {'mean': info.mean, 'std': info.std, 'note': 'of values / 255; inside the program'},
    'layout': f'{WEIGHTS}: kernels are [height, width, in, out] and [in, out]; images are [batch, height, width, 3]',
    'config': configs.plain(run.config),
  }


def write(run: trained.Trained, output: pathlib.Path) -> float:
  """Writes all files and checks the program.

  Returns:
    The `difference`.

  Raises:
    UserError: the folder cannot be written.
    RuntimeError: the program does not compute what the model computes.
  """
  data = program(run).serialize()
  about = description(run)
  try:
    output.mkdir(parents=True, exist_ok=True)
    (output / PROGRAM).write_bytes(data)
    safetensors.numpy.save_file(weights(run), output / WEIGHTS, {'model': json.dumps(about)})
    (output / DESCRIPTION).write_text(json.dumps(about, indent=2, ensure_ascii=False) + '\n')
    (output / EXAMPLE).write_text(EXAMPLE_TEXT.format(program=PROGRAM, size=run.info.image_size))
  except OSError as error:
    raise UserError(f'output={str(output)!r} cannot be written ({error.strerror}): give another folder.') from error
  return difference(run, export.deserialize(bytearray((output / PROGRAM).read_bytes())).call)


def write_onnx(run: trained.Trained, output: pathlib.Path) -> float:
  """The same program as `output`/model.onnx, by jax2onnx, checked in ONNX Runtime. Returns the `difference`.

  Raises:
    UserError: one of the two is not installed.
  """
  try:
    import jax2onnx
    import onnxruntime
  except ImportError as error:
    raise UserError(f'--onnx needs {error.name}: pip install -r requirements-onnx.txt') from error
  size, path = run.info.image_size, str(output / ONNX)
  images = jax.ShapeDtypeStruct(('batch', size, size, 3), np.uint8)
  jax2onnx.to_onnx(inference.function(run), [images], model_name='cmpe', return_mode='file', output_path=path)
  session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
  return difference(run, lambda batch: session.run(None, {session.get_inputs()[0].name: batch})[0])


def main(argv: Sequence[str]) -> None:
  """The command; `argv` without the program's name. Raises as `write`."""
  parser = trained.parser('export', __doc__)
  parser.add_argument('--output', required=True, type=pathlib.Path, help='folder of the files')
  parser.add_argument('--onnx', action='store_true', help='an ONNX file too (pip install -r requirements-onnx.txt)')
  options = parser.parse_args(argv)
  compile_cache()
  run = trained.open_run(options.workdir, options.checkpoint)
  found = [write(run, options.output)]
  files = [PROGRAM, WEIGHTS, DESCRIPTION, EXAMPLE]
  if options.onnx:
    found.append(write_onnx(run, options.output))
    files.append(ONNX)
  rows = {str(options.output / name): f'{(options.output / name).stat().st_size:,} bytes' for name in files}
  metrics.say(metrics.table(rows | {'against the model': f'logits equal to {max(found):.1e}'}))


if __name__ == '__main__':
  sys.exit(command.run(lambda: main(sys.argv[1:]), sys.argv[:1]))
