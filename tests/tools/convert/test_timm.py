import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
from torch_layout import network, randomized, state_dict

from cmpe_jax import models
from cmpe_jax.errors import UserError
from cmpe_jax.tools.convert.timm import from_timm, read


@pytest.mark.slow
@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
@pytest.mark.parametrize(
  ('name', 'model'),
  [
    ('resnet18', {}),
    ('resnet50', {'block': 'bottleneck', 'depth': 50}),
    ('seresnet50', {'block': 'bottleneck', 'depth': 50, 'gate': 'se', 'gate_bias': True}),
  ],
)
def test_logits_are_those_of_timm(name, model, suffix, tmp_path):
  torch = pytest.importorskip('torch', reason='pip install -r requirements-peer.txt')
  timm = pytest.importorskip('timm', reason='pip install -r requirements-peer.txt')
  torch.manual_seed(0)
  theirs = randomized(torch, timm.create_model(name, pretrained=False, num_classes=7))
  path = tmp_path / f'weights{suffix}'
  if suffix == '.pth':
    torch.save(theirs.state_dict(), path)
  else:
    arrays = {key: np.ascontiguousarray(tensor.numpy()) for key, tensor in theirs.state_dict().items()}
    safetensors.numpy.save_file(arrays, path)
  images = np.random.default_rng(0).normal(size=(2, 96, 96, 3)).astype(np.float32)
  with torch.inference_mode():
    want = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
  config = network(**model)
  variables = from_timm(str(path), config)
  config.num_classes = 7
  net = models.build(config)
  got = np.asarray(jax.jit(lambda v, x: net.apply(v, x, train=False))(variables, images))
  assert np.abs(want).max() > 0.1
  np.testing.assert_allclose(got, want, atol=1e-4 * max(1, np.abs(want).max()))


@pytest.mark.slow
def test_a_pickle_that_would_run_code_is_not_executed(tmp_path):
  torch = pytest.importorskip('torch', reason='pip install -r requirements-peer.txt')
  marker = tmp_path / 'executed'

  class Trap:
    def __reduce__(self):
      return open, (str(marker), 'w')

  torch.save({'conv1.weight': torch.zeros(1), 'trap': Trap()}, tmp_path / 'trap.pth')
  with pytest.raises(UserError, match='It was not executed'):
    read(str(tmp_path / 'trap.pth'))
  assert not marker.exists()


@pytest.fixture
def arrays():
  return state_dict(network(), 5)


def test_names_and_layouts(arrays, tmp_path):
  path = str(tmp_path / 'r18.safetensors')
  safetensors.numpy.save_file(arrays, path)
  variables = from_timm(path, network())
  block = variables['params']['stage2_block0']
  assert block['conv1']['kernel'].shape == (3, 3, 64, 128)
  assert block['conv1']['kernel'][2, 1, 5, 7] == arrays['layer2.0.conv1.weight'][7, 5, 2, 1]
  assert block['shortcut']['kernel'][0, 0, 5, 7] == arrays['layer2.0.downsample.0.weight'][7, 5, 0, 0]
  np.testing.assert_array_equal(variables['params']['classifier']['kernel'], arrays['fc.weight'].T)
  np.testing.assert_array_equal(
    variables['batch_stats']['stage4_block1']['bn2']['var'], arrays['layer4.1.bn2.running_var']
  )
  np.testing.assert_array_equal(block['shortcut_bn']['scale'], arrays['layer2.0.downsample.1.weight'])


def test_what_does_not_fit_is_listed(arrays, tmp_path):
  del arrays['layer1.0.bn1.weight']
  arrays['layer9.conv.weight'] = np.zeros(3, np.float32)
  arrays['layer4.1.conv2.weight'] = np.zeros((512, 512, 1, 1), np.float32)
  path = str(tmp_path / 'wrong.safetensors')
  safetensors.numpy.save_file(arrays, path)
  with pytest.raises(UserError) as raised:
    from_timm(path, network())
  assert raised.value.args[0].splitlines()[1:] == [
    '  - layer1.0.bn1.weight (missing in the file)',
    '  + layer9.conv.weight [3] (unmatched)',
    '  layer4.1.conv2.weight: [1, 1, 512, 512] in the file, [3, 3, 512, 512] here',
  ]


@pytest.mark.parametrize(
  ('model', 'said'),
  [
    ({'gate': 'pair_1x1'}, 'config.init_from'),
    ({'gate': 'se'}, 'model.gate_bias=True'),
    ({'preact': True}, 'model.preact=False'),
    ({'backbone': 'resnet', 'preact': True}, "model.backbone='imagenet_resnet'"),
  ],
)
def test_networks_that_such_files_do_not_hold(model, said, arrays, tmp_path):
  path = str(tmp_path / 'r18.safetensors')
  safetensors.numpy.save_file(arrays, path)
  with pytest.raises(UserError, match=said):
    from_timm(path, network(**model))


def test_files_that_are_none(tmp_path, monkeypatch):
  (tmp_path / 'text.safetensors').write_text('not safetensors')
  with pytest.raises(UserError, match='is not a readable state dict'):
    read(str(tmp_path / 'text.safetensors'))
  with pytest.raises(UserError, match='does not exist'):
    read(str(tmp_path / 'nowhere.safetensors'))
  monkeypatch.setitem(sys.modules, 'torch', None)
  with pytest.raises(UserError, match='requirements-peer.txt'):
    read(str(tmp_path / 'weights.pth'))
