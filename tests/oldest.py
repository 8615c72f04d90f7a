"""The oldest versions that are supported, as constraints for pip: `python tests/oldest.py` writes tests/oldest.txt."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
FILES = ('requirements.txt', 'requirements-prepare.txt', 'requirements-test.txt')
HEAD = """\
# The lower bounds of {}, by `python tests/oldest.py`.
# `make test CONSTRAINTS=tests/oldest.txt` installs them.
"""


def lower_bound(line):
  """'etils[epath]>=1.15.0,<2; marker' as 'etils==1.15.0': a constraint has no extras."""
  name, version = re.fullmatch(r'([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)(?:[,;].*)?', line).groups()
  return f'{name}=={version}'


def page():
  """The text of tests/oldest.txt."""
  lines = [line.partition('#')[0].strip() for name in FILES for line in (ROOT / name).read_text().splitlines()]
  found = sorted({lower_bound(line) for line in lines if line and not line.startswith('-r ')}, key=str.lower)
  return HEAD.format(', '.join(FILES)) + '\n'.join(found) + '\n'


if __name__ == '__main__':
  (ROOT / 'tests' / 'oldest.txt').write_text(page())
