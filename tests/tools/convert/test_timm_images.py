"""What timm says of images beside its weights: kept from the conversion to predictions, runs and what is saved."""

import contextlib
import io
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image
from torch_layout import network, randomized, state_dict

import cmpe_jax
from cmpe_jax import config as configuration
from cmpe_jax import keys
from cmpe_jax.data import datasets, image, splits
from cmpe_jax.errors import UserError
from cmpe_jax.runtime import mesh
from cmpe_jax.tools.convert import command
from cmpe_jax.tools.convert.timm import described
from cmpe_jax.training import trained

SHOWN = {  # of timm/resnet18.a1_in1k, as timm 1.0.31 writes it, with other numbers than the defaults
  'architecture': 'resnet18',
  'num_classes': 5,
  'pretrained_cfg': {
    'tag': 'a1_in1k',
    'input_size': [3, 160, 160],
    'test_input_size': [3, 288, 288],
    'interpolation': 'bicubic',
    'crop_pct': 0.95,
    'test_crop_pct': 1.0,
    'crop_mode': 'center',
    'mean': [0.5, 0.4, 0.3],
    'std': [0.2, 0.3, 0.4],
  },
}


@pytest.fixture
def folder(tmp_path):
  """What timm and the Hub keep of a network."""
  place = tmp_path / 'hub'
  place.mkdir()
  safetensors.numpy.save_file(state_dict(network(), 5), place / 'model.safetensors')
  (place / 'config.json').write_text(json.dumps(SHOWN))
  return place


def flowers(path):
  """A configuration of a folder of five classes."""
  for number in range(20):
    place = path / 'flowers' / 'abcde'[number % 5] / f'{number}.png'
    place.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (180, 200, 3), np.uint8)
    Image.fromarray(pixels).save(place)
  config = configuration.base()
  config.dataset = f'folder:{path}/flowers'
  config.model.update(network())
  config.augmentation = 'random_resized'
  return config


def test_weights_keep_their_name_and_how_images_are_shown_to_them(folder, tmp_path, capsys):
  config = flowers(tmp_path)
  command.main('timm', str(folder), config, str(tmp_path / 'run'))
  assert 'architecture=resnet18.a1_in1k' in capsys.readouterr().out
  run = trained.open_run(str(tmp_path / 'run'))
  found = {name: run.config[name] for name in keys.SHOWN}
  assert found == {
    'architecture': 'resnet18.a1_in1k',
    'image_size': 160,
    'pixel_mean': (0.5, 0.4, 0.3),
    'pixel_std': (0.2, 0.3, 0.4),
    'eval_crop': 0.95,
    'eval_interpolation': 'bicubic',
  }
  pixels = np.random.default_rng(0).integers(0, 256, (200, 250, 3)).astype(np.uint8)
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'PNG')
  square = run.square(file.getvalue(), 'x')
  np.testing.assert_array_equal(square, image.centre_crop(file.getvalue(), 'x', 160, 'bicubic', 0.95))
  np.testing.assert_allclose(
    run.normalize(square[None])[0], (square / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4], atol=1e-5
  )
  cmpe_jax.save_pretrained(str(tmp_path / 'run'), str(tmp_path / 'saved'))
  about = json.loads((tmp_path / 'saved' / 'config.json').read_text())
  assert (about['architecture'], about['crop_share'], about['interpolation']) == ('resnet18.a1_in1k', 0.95, 'bicubic')
  assert about['normalization']['mean'] == [0.5, 0.4, 0.3]


def test_a_run_on_them_shows_images_so_and_says_so_if_told_otherwise(folder, tmp_path):
  config = flowers(tmp_path)
  command.main('timm', str(folder), config, str(tmp_path / 'run'))
  saved = cmpe_jax.load_model(str(tmp_path / 'run'))[2]
  begun = configuration.as_begun(config, saved)
  assert {name: begun[name] for name in keys.SHOWN} == {name: saved[name] for name in keys.SHOWN}
  configuration.check_resumed(datasets.describe(begun).resolve(begun), saved, 1)
  config.eval_crop = 0.8
  with pytest.raises(UserError, match=r'eval_crop: 0\.95 in the checkpoint, 0\.8 now'):
    configuration.check_resumed(configuration.as_begun(config, saved), saved, 1)
  config.update({'eval_crop': 0.875, 'eval_interpolation': 'four_pixels'})
  command.main('timm', str(folder / 'model.safetensors'), config, str(tmp_path / 'own'))
  assert cmpe_jax.load_model(str(tmp_path / 'own'))[2].eval_interpolation == 'four_pixels'


def test_an_evaluation_shows_the_images_so(folder, tmp_path):
  command.main('timm', str(folder), flowers(tmp_path), str(tmp_path / 'run'))
  run = trained.open_run(str(tmp_path / 'run'))
  files = run.dataset.content.examples('test')
  with contextlib.closing(splits.open_split(run.config, run.dataset, 'test', mesh.make(jax.devices()[:1]))) as source:
    (drawn,) = source.evaluate(len(files))
    batch = jax.device_get(source.materialize(source.resident, drawn))
  for position, pixels in enumerate(batch['image']):
    data, _, name = files.read(position)
    np.testing.assert_array_equal(pixels, image.centre_crop(data, name, 160, 'bicubic', 0.95))
  assert len(batch['image']) > 1


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    ({'input_size': [3, 'large', 'large']}, "is not timm's .TypeError: 'str'"),
    ({'input_size': '3x160x160'}, "is not timm's .TypeError: 'str'"),
    ({'interpolation': 'lanczos'}, "interpolation='lanczos' with crop_mode='center' is not known here"),
    ({'crop_mode': 'border'}, "crop_mode='border' is not known here"),
    ({'mean': None}, "is not timm's"),
    ({'input_size': []}, "is not timm's"),
  ],
)
def test_descriptions_that_cannot_be_followed(change, said, folder):
  about = SHOWN | {'pretrained_cfg': SHOWN['pretrained_cfg'] | change}
  (folder / 'config.json').write_text(json.dumps(about))
  with pytest.raises(UserError, match=said):
    described(str(folder / 'model.safetensors'))
  for text in ('{', '[]', '{"architecture": "resnet18", "pretrained_cfg": "x"}'):
    (folder / 'config.json').write_text(text)
    with pytest.raises(UserError, match="is not timm's"):
      described(str(folder / 'model.safetensors'))


@pytest.mark.slow
def test_a_folder_that_timm_wrote_sees_images_as_timm_shows_them(tmp_path):
  torch = pytest.importorskip('torch', reason='pip install -r requirements-peer.txt')
  timm = pytest.importorskip('timm', reason='pip install -r requirements-peer.txt')
  torch.manual_seed(0)
  theirs = randomized(torch, timm.create_model('resnet18.a1_in1k', pretrained=False, num_classes=5))
  timm.models.save_for_hf(theirs, tmp_path / 'hub', safe_serialization=True)
  command.main('timm', str(tmp_path / 'hub'), flowers(tmp_path), str(tmp_path / 'run'))
  run = trained.open_run(str(tmp_path / 'run'))
  assert run.config.architecture == 'resnet18.a1_in1k'
  assert (run.config.image_size, run.config.eval_crop, run.config.eval_interpolation) == (224, 0.95, 'bicubic')
  transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs))
  picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (300, 401, 3)).astype(np.uint8))
  file = io.BytesIO()
  picture.save(file, 'PNG')
  with torch.inference_mode():
    want = theirs(transform(picture)[None]).numpy()
  got = run.logits(run.variables, run.square(file.getvalue(), 'x')[None])
  assert np.ptp(want) > 0.1
  np.testing.assert_allclose(got, want, atol=1e-4 * max(1, np.abs(want).max()))
