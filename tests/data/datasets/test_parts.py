"""Folders whose parts are called otherwise than `train` and `test`."""

import pathlib

import pytest
from PIL import Image

from cmpe_jax.data.datasets import folder
from cmpe_jax.errors import UserError


def fill(root: pathlib.Path, count: int) -> None:
  for name in ('blue', 'green', 'red'):
    (root / name).mkdir(parents=True)
    for number in range(count):
      Image.new('RGB', (8, 8), name).save(root / name / f'{number}.png')


def test_parts_in_capitals_are_parts(tmp_path):
  fill(tmp_path / 'Train', 4)
  fill(tmp_path / 'TEST', 2)
  found = folder.scan(tmp_path, 0)
  assert found.class_names == ('blue', 'green', 'red')
  assert {split: len(files) for split, files in found.splits.items()} == {'train': 12, 'test': 6}


def test_what_looks_like_parts_is_no_class(tmp_path):
  fill(tmp_path / 'Training', 4)
  fill(tmp_path / 'Testing', 2)
  with pytest.raises(UserError, match="'Testing' and 'Training' where class folders are expected: call the parts 'tra"):
    folder.scan(tmp_path, 0)
