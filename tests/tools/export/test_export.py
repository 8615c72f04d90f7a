import hashlib
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
from jax import export as jax_export

from cmpe_jax.errors import UserError
from cmpe_jax.tools.export import command as export
from cmpe_jax.tools.export import inference
from cmpe_jax.training import publish, trained
from cmpe_jax.training.pretrained import DESCRIPTION, WEIGHTS

# What another project would write: nothing of this one can be imported there.
ELSEWHERE = """
import sys
from jax import export
import numpy as np
model = export.deserialize(bytearray(open(sys.argv[1] + '/model.stablehlo', 'rb').read()))
images = np.load(sys.argv[1] + '/images.npy')
logits = {str(n): np.asarray(model.call(images[:n])) for n in (1, 3, 32)}
assert not [name for name in sys.modules if name.startswith(('cmpe_jax', 'flax', 'orbax'))]
np.savez(sys.argv[1] + '/logits.npz', **logits)
"""


@pytest.fixture(scope='module')
def exported(workdir, tmp_path_factory):
  output = tmp_path_factory.mktemp('exported')
  run = trained.open_run(workdir)
  publish.write(run, output)
  return run, output, export.write(run, output)


def test_logits_in_a_process_that_knows_jax_only(exported, tmp_path):
  run, output, found = exported
  assert found <= 1e-5
  images = np.random.default_rng(1).integers(0, 256, (32, 16, 16, 3)).astype(np.uint8)
  np.save(output / 'images.npy', images)
  command = [sys.executable, '-P', '-c', ELSEWHERE, str(output)]
  subprocess.run(command, check=True, timeout=200, cwd=tmp_path, env=os.environ | {'XLA_FLAGS': ''})
  got = np.load(output / 'logits.npz')
  model = jax.jit(lambda variables, x: run.model.apply(variables, x, train=False))
  want = np.asarray(model(run.variables, ((images / 255 - 0.305) / 0.376).astype(np.float32)))
  for count in (1, 3, 32):
    assert got[str(count)].shape == (count, 10)
    np.testing.assert_allclose(got[str(count)], want[:count], atol=1e-5)


def test_the_mirror_image_counts_as_in_evaluations(random_run):
  run = random_run()
  images = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3)).astype(np.uint8)
  one, other = (np.asarray(inference.function(run)(x)) for x in (images, images[:, :, ::-1]))
  assert np.abs(one - other).max() > 0.01
  run.config.eval_flip = True
  for call in (inference.function(run), lambda x: run.logits(run.variables, x)):  # `predict` asks for the latter
    np.testing.assert_allclose(call(images), (one + other) / 2, atol=1e-5)


def test_the_program_is_for_every_platform_and_has_no_statistics_left(exported):
  _, output, _ = exported
  program = jax_export.deserialize(bytearray((output / export.PROGRAM).read_bytes()))
  assert program.platforms == ('cpu', 'cuda', 'tpu')
  assert str(program.in_avals[0]).startswith('uint8[batch,16,16,3]')
  assert str(program.out_avals[0]) == 'float32[batch,10]'
  text = program.mlir_module()
  assert 'rsqrt' not in text
  # Stem, two a block, two projections, and none for the maps; each platform has its own copy.
  assert text.count('stablehlo.convolution') == 3 * 9


def test_weights_are_read_without_jax(exported):
  run, output, _ = exported
  arrays = safetensors.numpy.load_file(output / WEIGHTS)
  kernel = run.variables['params']['stage2_block0']['conv1']['kernel']
  np.testing.assert_array_equal(arrays['params/stage2_block0/conv1/kernel'], kernel)
  assert len(arrays) == len(jax.tree.leaves(run.variables))
  with safetensors.safe_open(output / WEIGHTS, 'numpy') as file:
    about = json.loads(file.metadata()['model'])
  described = json.loads((output / DESCRIPTION).read_text())
  assert hashlib.sha256((output / WEIGHTS).read_bytes()).hexdigest() == described.pop('sha256')
  assert about == described
  assert about['class_names'] == [str(digit) for digit in range(10)]
  assert about['config']['model']['gate'] == 'pair_1x1'


def test_the_program_is_made_again_from_weights_alone(exported, tmp_path, capsys):
  run, output, _ = exported
  kept = {path.name: path.read_bytes() for path in output.iterdir() if path.name in ('config.json', WEIGHTS)}
  alone = tmp_path / 'alone'
  alone.mkdir()
  for name, data in kept.items():
    (alone / name).write_bytes(data)
  export.main([f'--weights={alone}', f'--output={alone}'])
  assert 'logits equal to' in capsys.readouterr().out
  assert {name: (alone / name).read_bytes() for name in kept} == kept
  images = np.random.default_rng(5).integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
  programs = [jax_export.deserialize(bytearray((folder / export.PROGRAM).read_bytes())) for folder in (output, alone)]
  np.testing.assert_array_equal(*[program.call(images) for program in programs])
  with pytest.raises(UserError, match='--checkpoint=best chooses one of a --workdir'):
    export.main([f'--weights={alone}', f'--output={alone}', '--checkpoint=best'])


def test_the_command_writes_what_from_pretrained_reads(workdir, exported, tmp_path):
  export.main([f'--workdir={workdir}', f'--output={tmp_path}'])
  assert sorted(os.listdir(tmp_path)) == ['config.json', 'example.py', 'model.safetensors', 'model.stablehlo']
  network, run = trained.from_pretrained(str(tmp_path)), exported[0]
  for ours, theirs in zip(jax.tree.leaves(network.variables), jax.tree.leaves(run.variables), strict=True):
    np.testing.assert_array_equal(ours, theirs)


def test_the_example_runs(exported, tmp_path):
  _, output, _ = exported
  command = [sys.executable, '-P', str(output / export.EXAMPLE)]
  done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200, cwd=tmp_path)
  assert done.stdout.count('\n') >= 3
  assert len((output / export.EXAMPLE).read_text().splitlines()) == 5


@pytest.mark.parametrize(
  'model',
  [
    {'gate': 'folded_3x3', 'block': 'bottleneck', 'depth': 11, 'gate_form': 'reference'},
    {'gate': 'pair_2x1', 'backbone': 'wide_resnet', 'depth': 10, 'width': 2},
    {'gate': 'pair_1x1', 'backbone': 'imagenet_resnet', 'depth': 18, 'preact': False, 'blur_pool': True},
    pytest.param(
      {'gate': 'double_fc', 'backbone': 'imagenet_resnet', 'block': 'bottleneck', 'depth': 50, 'preact': False},
      marks=pytest.mark.slow,
    ),
    {'gate': 'se', 'backbone': 'imagenet_resnet', 'depth': 18, 'gate_bias': True},
    {'gate': 'eca', 'block': 'bottleneck', 'depth': 11},
    {'gate': 'ge'},
    {'gate': 'none'},
  ],
  ids=lambda model: '-'.join(str(value) for value in model.values()),
)
def test_every_kind_of_network_folds_to_itself(model, random_run):
  run = random_run(**model)
  images = np.random.default_rng(2).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
  want = np.asarray(jax.jit(run.logits)(run.variables, images))
  got = np.asarray(jax.jit(inference.function(run))(images))
  np.testing.assert_allclose(got, want, atol=1e-5 * max(1, np.abs(want).max()))
  assert np.ptp(want, axis=0).max() > 1e-3  # the images matter


@pytest.mark.slow
def test_onnx_gives_the_same_logits(exported, tmp_path):
  pytest.importorskip('jax2onnx', reason='pip install -r requirements-onnx.txt')
  onnxruntime = pytest.importorskip('onnxruntime', reason='pip install -r requirements-onnx.txt')
  run, _, _ = exported
  assert export.write_onnx(run, tmp_path) <= 1e-5
  session = onnxruntime.InferenceSession(tmp_path / export.ONNX)
  images = np.random.default_rng(3).integers(0, 256, (32, 16, 16, 3)).astype(np.uint8)
  want = np.asarray(jax.jit(run.logits)(run.variables, images))
  for count in (1, 3, 32):
    (got,) = session.run(None, {session.get_inputs()[0].name: images[:count]})
    np.testing.assert_allclose(got, want[:count], atol=1e-5)


def test_onnx_without_its_converter_says_what_to_install(exported, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'jax2onnx', None)
  with pytest.raises(UserError, match='requirements-onnx.txt'):
    export.write_onnx(exported[0], tmp_path)


def test_wrong_flags(workdir, exported, tmp_path):
  (tmp_path / 'file').write_text('')
  for write in (export.write, publish.write):
    with pytest.raises(UserError, match='cannot be written'):
      write(exported[0], tmp_path / 'file')
  with pytest.raises(SystemExit) as ended:
    export.main([f'--workdir={workdir}'])
  assert ended.value.code == 2
