"""A preparation that is adopted may be damaged, incomplete or made for trials: it is said, and nothing is left."""

import pytest
import tensorflow_datasets as tfds

from cmpe_jax.data import records
from cmpe_jax.data.datasets import DATASETS
from cmpe_jax.data.datasets.digits import Digits
from cmpe_jax.data.preparation import install
from cmpe_jax.data.preparation.install import Request
from cmpe_jax.errors import UserError


class Few(Digits, skip_registration=True):
  """The first 40 digits of each part."""

  name = 'digits'

  def _generate_examples(self, split):
    for count, example in enumerate(super()._generate_examples(split)):
      if count < 40:
        yield example


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  """The digits in both formats."""
  found = {}
  for form in ('array_record', 'tfrecord'):
    builder = Digits(data_dir=tmp_path_factory.mktemp(form), file_format=form)
    builder.download_and_prepare()
    found[form] = builder.data_path
  return found


def flip(file):
  data = bytearray(file.read_bytes())
  data[len(data) // 2 :][:200] = bytes(200)
  file.write_bytes(data[: len(data) // 2] + bytes(200) + data[len(data) // 2 + 200 :])


@pytest.mark.parametrize('harm', [flip, lambda file: file.unlink()], ids=['damaged', 'missing'])
@pytest.mark.parametrize('form', ['array_record', 'tfrecord'])
def test_records_that_cannot_be_read_are_said(written, form, harm, tmp_path):
  (file,) = written[form].glob('*train*record*')
  whole = file.read_bytes()
  harm(file)
  try:
    with pytest.raises(
      UserError, match=r'digits.* is (missing, truncated or damaged \(|damaged: ).*\. Copy it again\.$'
    ):
      install.prepare(DATASETS['digits'], tmp_path, Request(adopt=written[form]))
  finally:
    file.write_bytes(whole)
  assert records.find('digits', tmp_path) is None
  assert not list(tmp_path.glob('incomplete*'))


def test_a_trial_does_not_pass_for_the_whole(written, tmp_path):
  builder = Few(data_dir=tmp_path / 'few', file_format='array_record')
  builder.download_and_prepare()
  trial = Request(adopt=builder.data_path, partial=True)
  directory = install.prepare(DATASETS['digits'], tmp_path / 'data', trial)
  assert records.counts(directory) == {'train': 40, 'test': 40}
  for request in (Request(), Request(adopt=written['array_record'])):
    with pytest.raises(UserError, match="with --partial: 40 examples in split 't.*' instead of .* Remove it and"):
      install.prepare(DATASETS['digits'], tmp_path / 'data', request)
  assert install.prepare(DATASETS['digits'], tmp_path / 'data', trial) == directory
  assert tfds.core.Version.is_valid(directory.name)
