"""Takes a trained network out of this project: `python -m cmpe_jax.tools.export --workdir=runs/digits --output=DIR`.

Writes a program that needs JAX only (uint8 images in, logits out, any batch size, CPU, GPU and TPU), the weights for
those who have not even JAX, and a description of both. `--weights=DIR` writes the program again, from weights alone.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import export

from cmpe_jax.errors import UserError
from cmpe_jax.runtime import files, printing, start
from cmpe_jax.tools.export import inference
from cmpe_jax.tools.shared import arguments
from cmpe_jax.training import publish, trained
from cmpe_jax.training.pretrained import DESCRIPTION, WEIGHTS

PLATFORMS = ('cpu', 'cuda', 'tpu')
TOLERANCE = 1e-5  # of logits; relative to the largest of an image where that is larger than 1
PROGRAM, EXAMPLE, ONNX = 'model.stablehlo', 'example.py', 'model.onnx'
EXAMPLE_TEXT = """import pathlib
import numpy as np
from jax import export
model = export.deserialize(bytearray(pathlib.Path(__file__).with_name('{program}').read_bytes()))
print(model.call(np.zeros((3, {size}, {size}, 3), np.uint8)))  # RGB images in, logits out
"""


def program(run: trained.Trained) -> export.Exported:
  """The network as StableHLO: uint8[batch, H, W, 3] -> float32[batch, classes], normalization inside."""
  size = run.dataset.image_size
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
  size = run.dataset.image_size
  images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3)).astype(np.uint8)
  model = trained.single_precision(run)
  want = np.asarray(jax.jit(model.logits)(model.variables, images))
  found = float((np.abs(np.asarray(call(images)) - want) / np.maximum(1, np.abs(want).max(1, keepdims=True))).max())
  if not found <= TOLERANCE:
    raise RuntimeError(f'the exported program differs from the model by {found:.1e}, more than {TOLERANCE}.')
  return found


def write(run: trained.Trained, output: pathlib.Path) -> float:
  """Writes the program and its example, and checks the program.

  Returns:
    The `difference`.

  Raises:
    UserError: the folder cannot be written.
    RuntimeError: the program does not compute what the model computes.
  """
  data = program(run).serialize()
  try:
    output.mkdir(parents=True, exist_ok=True)
    (output / PROGRAM).write_bytes(data)
    (output / EXAMPLE).write_text(EXAMPLE_TEXT.format(program=PROGRAM, size=run.dataset.image_size))
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
  size, path = run.dataset.image_size, str(output / ONNX)
  images = jax.ShapeDtypeStruct(('batch', size, size, 3), np.uint8)
  jax2onnx.to_onnx(inference.function(run), [images], model_name='cmpe', return_mode='file', output_path=path)
  session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
  return difference(run, lambda batch: session.run(None, {session.get_inputs()[0].name: batch})[0])


def main(argv: Sequence[str]) -> None:
  """The command; `argv` without the program's name.

  Raises:
    UserError: as `write`; an output that is a bucket's.
    RuntimeError: as `write`.
  """
  parser = arguments.parser('export', __doc__, weights='weights')
  parser.add_argument('--output', required=True, help='folder of the files')
  parser.add_argument('--onnx', action='store_true', help='an ONNX file too (pip install -r requirements-onnx.txt)')
  options = parser.parse_args(argv)
  output = files.local(options.output, 'output')
  start.jax()
  run = arguments.network(options)
  written = [PROGRAM, EXAMPLE]
  if options.workdir is not None:
    publish.write(run, output)
    written += [WEIGHTS, DESCRIPTION]
  found = [write(run, output)]
  if options.onnx:
    found.append(write_onnx(run, output))
    written.append(ONNX)
  rows = {str(output / name): f'{(output / name).stat().st_size:,} bytes' for name in written}
  printing.line(printing.table(rows | {'against the model': f'logits equal to {max(found):.1e}'}))
