"""What `make docs` adds to the pages of docs/: README.md as the home page, its neighbours, files that are linked to.

Links are written so that they work where the files lie in the repository. Here they are turned into those of the site.
"""

import pathlib
import posixpath
import re
from typing import Any

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = {'README.md': 'index.md'} | {name: name for name in ('CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md')}
FILES = ('LICENSE', 'CITATION.cff', 'notebooks/quickstart.ipynb')
LINK = re.compile(r'(\]\()(?![a-z]+:|#)([^)#\s]+)')


def on_files(files: Any, config: Any) -> Any:
  """The files of the site."""
  for name, place in PAGES.items():
    files.append(File.generated(config, place, content=(ROOT / name).read_text()))
  for name in FILES:
    files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
  return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
  """A page with the links of the site; links to folders and sources, which it does not have, become plain words."""
  place = {site: name for name, site in PAGES.items()}.get(page.file.src_uri) or f'docs/{page.file.src_uri}'
  here = posixpath.dirname(place)

  def target(match: re.Match) -> str:
    path = posixpath.normpath(posixpath.join(here, match[2]))
    inside = PAGES.get(path) or (path if path in FILES else path.removeprefix('docs/'))
    return match[1] + posixpath.relpath(inside, posixpath.dirname(page.file.src_uri) or '.')

  markdown = re.sub(r'(?<!!)\[([^\]]+)\]\((?:(?:configs|launch)(?:/[\w.]*)?|results)\)', r'\1', markdown)
  return LINK.sub(target, markdown)
