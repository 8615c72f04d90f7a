"""Images of another dataset are normalized as those that the network was trained on."""

import pytest
from PIL import Image

import cmpe_jax
from cmpe_jax import config as configuration
from cmpe_jax.data import datasets
from cmpe_jax.errors import UserError


def write(config, root):
  """The digits as a class folder, whose usual mean and deviation are ImageNet's."""
  for split, count in (('train', 100), ('test', None)):
    images, labels = datasets.describe(config).content.arrays(split)
    for number, (pixels, label) in enumerate(zip(images[:count], labels[:count], strict=True)):
      file = root / split / str(label) / f'{number}.png'
      file.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(pixels).save(file)


def test_the_same_images_in_a_folder_give_the_same_figures(tmp_path, capsys):
  config = configuration.load('digits')
  config.model.update({'block': 'basic', 'depth': 8})
  config.update({'epochs': 0.3, 'warmup_epochs': 0.0})
  workdir = str(tmp_path / 'run')
  known = cmpe_jax.train(config, workdir)
  write(config, tmp_path / 'images')
  config.update({'dataset': f'folder:{tmp_path}/images', 'image_size': 16})
  assert 'normalized as' not in capsys.readouterr().out
  found = cmpe_jax.evaluate(config, workdir)
  assert 'normalized as in training: mean (0.305, 0.305, 0.305), dev' in capsys.readouterr().out
  assert found['eval/count'] == known['eval/count'] == 364
  assert found['eval/accuracy'] == known['eval/accuracy']
  assert found['eval/loss'] == pytest.approx(known['eval/loss'], rel=1e-5)
  config.update({'pixel_mean': (0.305,) * 3, 'pixel_std': (0.376,) * 3})
  assert cmpe_jax.evaluate(config, workdir)['eval/accuracy'] == known['eval/accuracy']
  config.pixel_mean = (0.3,) * 3
  with pytest.raises(UserError, match=r'pixel_mean: \(0.305, 0.305, 0.305\) in the checkpoint, \(0.3, 0.3, 0.3\) now'):
    cmpe_jax.evaluate(config, workdir)
