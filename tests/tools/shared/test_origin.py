"""Where results come from."""

import subprocess

from cmpe_jax.tools.shared import origin


def git(root, *words):
  names = ('-c', 'user.name=a', '-c', 'user.email=a@b')
  return subprocess.run(['git', *names, *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_the_last_one_of_the_code(tmp_path):
  assert origin.commit(tmp_path) == ''
  git(tmp_path, 'init', '-q')
  assert origin.commit(tmp_path) == ''
  (tmp_path / 'cmpe_jax').mkdir()
  (tmp_path / 'cmpe_jax' / 'a.py').write_text('1\n')
  git(tmp_path, 'add', '.')
  git(tmp_path, 'commit', '-qm', 'code')
  code = git(tmp_path, 'rev-parse', 'HEAD')
  (tmp_path / 'results.json').write_text('{}\n')
  git(tmp_path, 'add', '.')
  git(tmp_path, 'commit', '-qm', 'results')
  assert git(tmp_path, 'rev-parse', 'HEAD') != code
  assert origin.commit(tmp_path) == code
  (tmp_path / 'cmpe_jax' / 'a.py').write_text('2\n')
  assert origin.commit(tmp_path) == code + '+'


def test_an_origin_has_versions_and_devices():
  found = origin.origin()
  assert found['devices'] == '8 x cpu'  # as the tests have them
  assert found['versions'].keys() == {'cmpe_jax', 'jax', 'jaxlib', 'flax', 'optax'}
