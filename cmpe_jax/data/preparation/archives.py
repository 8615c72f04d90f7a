"""Upstream archives: which files a dataset needs, where they are looked for, and TFDS's builder that reads them."""

import dataclasses
import importlib.util
import os
import pathlib
import sys
import tarfile
import types
import urllib.parse
import zlib
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums, resource

from cmpe_jax.data.preparation import rewrite
from cmpe_jax.errors import UserError

Builder = Any  # a subclass of tfds.core.DatasetBuilder
IMAGENET_PAGE = 'https://image-net.org/download-images'


@dataclasses.dataclass(frozen=True)
class Archive:
  """One file that a dataset is made from. `size` in bytes."""

  name: str
  url: str  # where to fetch it
  size: int
  path: pathlib.Path | None  # where it lies; None: not on this disk


def build(
  builder_class: Builder, staging: pathlib.Path, root: pathlib.Path, folder: pathlib.Path | None, partial: bool
) -> None:
  """Runs a TFDS builder on archives that lie in `folder`, in root/downloads, or that TFDS can download.

  Args:
    builder_class: of a dataset of TFDS.
    staging: the data_dir to write to.
    root: the data_dir whose `downloads` holds the archives.
    folder: where the user has the archives; None: `root/downloads/manual`.
    partial: accept archives of another size and checksum than the published ones.

  Raises:
    UserError: no TensorFlow; missing, truncated or damaged archives.
  """
  if importlib.util.find_spec('tensorflow') is None:
    raise UserError(
      f'preparing {builder_class.name} needs TensorFlow: pip install -r requirements-prepare.txt. '
      'Training does not; a dataset prepared elsewhere can be copied.'
    )
  # What TensorFlow says about its own arithmetic when it is imported concerns nobody who copies images.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  if not sys.stderr.isatty():  # a log file is no place for bars
    tfds.disable_progress_bar()
  downloads = root / 'downloads'
  manual = folder or downloads / 'manual'
  archives = locate(builder_class, manual, None if folder else downloads)
  _check(builder_class, archives, manual, given=folder is not None, partial=partial)
  if partial:
    infos = {archive.url: checksums.compute_url_info(archive.path) for archive in archives if archive.path}
    builder_class = variant(builder_class, url_infos=infos)
  builder = builder_class(data_dir=staging, file_format='array_record')
  try:
    builder.download_and_prepare(
      download_dir=downloads,
      download_config=tfds.download.DownloadConfig(manual_dir=manual, extract_dir=staging / 'extracted'),
    )
  except UserError:
    raise
  except tfds.download.DownloadError as error:
    raise UserError(f'{builder.name}: a download failed ({_first_line(error)}). {_advice(archives, manual)}') from error
  except (OSError, *_DAMAGE) as error:
    if getattr(error, 'errno', None) is not None:  # the disk's fault; gzip and scipy.io raise OSError without a number
      raise
    raise UserError(
      f'{builder.name}: an archive is damaged ({_first_line(error)}). {_advice(archives, manual)}'
    ) from error


# What TFDS, tarfile, gzip, scipy.io and NumPy raise on bytes that were cut off or changed.
_DAMAGE = (
  tfds.core.download.download_manager.NonMatchingChecksumError,
  tfds.core.download.extractor.ExtractError,
  tfds.core.download.extractor.UnsafeArchiveError,
  tarfile.TarError,
  zlib.error,
  EOFError,
  ValueError,
  AssertionError,
)


def variant(base: Builder, **attributes: Any) -> Builder:
  """A subclass of a TFDS builder under the same name, which TFDS does not enter in its registry."""
  kept = {
    'name': base.name,
    'url_infos': base.url_infos,
    'pkg_dir_path': base.pkg_dir_path or pathlib.Path(__file__).parent,
  }
  return types.new_class('Variant', (base,), {'skip_registration': True}, lambda body: body.update(kept | attributes))


def without_extra(base: Builder) -> Builder:
  """TFDS's builder of SVHN without the 1.3 GB of additional training images."""

  def split_generators(self: Any, dl_manager: Any) -> dict[str, Any]:
    urls = {_file_name(url, info).partition('_')[0]: url for url, info in self.url_infos.items()}
    paths = dl_manager.download(urls)
    return {split: self._generate_examples(f'{split}_', path) for split, path in paths.items()}

  infos = {url: info for url, info in base.url_infos.items() if 'extra' not in _file_name(url, info)}
  return variant(base, url_infos=infos, _split_generators=split_generators)


def shrunk(base: Builder, shorter_side: int) -> Builder:
  """TFDS's builder with images made smaller on the way, so that the originals are not stored first."""

  def generate_examples(self: Any, *args: Any, **kwargs: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    # The files are read at once: they lie in a tar that is read as a stream.
    generated = base._generate_examples(self, *args, **kwargs)
    examples = ({**example, 'image': example['image'].read()} for _, example in generated)
    return ((example['file_name'], example) for example in rewrite.shrink(examples, shorter_side))

  return variant(base, name=f'{base.name}_{shorter_side}', _generate_examples=generate_examples)


def locate(builder: Builder, manual: pathlib.Path, downloads: pathlib.Path | None) -> list[Archive]:
  """The archives of a builder, and where they lie: in `manual`, or downloaded by TFDS at an earlier time."""
  infos = dict(builder.url_infos)
  found = []
  for url, info in infos.items():
    name = _file_name(url, info)
    places = [manual / name]
    if downloads:
      cached = resource.get_dl_fname(url, info.checksum)
      places += [downloads / builder.name / cached, downloads / cached]
    path = next((place for place in places if place.is_file()), None)
    found.append(Archive(name, IMAGENET_PAGE if builder.MANUAL_DOWNLOAD_INSTRUCTIONS else url, int(info.size), path))
  return found


def _check(builder: Builder, archives: list[Archive], manual: pathlib.Path, given: bool, partial: bool) -> None:
  """Raises `UserError` for missing files that cannot be downloaded, and for files of a wrong size."""
  missing = [archive for archive in archives if archive.path is None]
  if missing and (given or partial):
    raise UserError(f'{builder.name}: not in {str(manual)!r}: {_names(missing)}. {_advice(archives, manual)}')
  if missing and builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
    raise UserError(
      f'{builder.name} cannot be downloaded without an account. Fetch {_names(missing)} from '
      f'{IMAGENET_PAGE} and put them into {str(manual)!r}, or give their folder by --archives=DIR.'
    )
  if missing and not _reachable(missing[0].url):
    raise UserError(f'{builder.name}: there is no network to fetch {_names(missing)}. {_advice(missing, manual)}')
  for archive in archives:
    size = archive.path.stat().st_size if archive.path else archive.size
    if size != archive.size and not partial:
      state = 'truncated' if size < archive.size else 'not the published file'
      raise UserError(
        f'{str(archive.path)!r} is {state}: it has {size:,} bytes instead of {archive.size:,}. '
        f'Fetch it again from {archive.url}.'
      )


def _reachable(url: str) -> bool:
  """Whether the server answers at all; TFDS itself tries for minutes before it gives up."""
  import requests  # TFDS downloads with it, and it honours the proxy settings

  try:
    requests.head(url, timeout=10)
  except requests.RequestException:
    return False
  return True


def _file_name(url: str, info: Any) -> str:
  return info.filename or pathlib.PurePosixPath(urllib.parse.urlsplit(url).path).name


def _names(archives: list[Archive]) -> str:
  return ', '.join(archive.name for archive in archives)


def _advice(archives: list[Archive], manual: pathlib.Path) -> str:
  urls = ', '.join(dict.fromkeys(archive.url for archive in archives))
  return f'Fetch {urls} and put the files into {str(manual)!r}, or give their folder by --archives=DIR.'


def _first_line(error: BaseException) -> str:
  lines = str(error).strip().splitlines()
  return lines[0] if lines else type(error).__name__
