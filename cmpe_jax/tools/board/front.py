"""The first table of README.md: the short recipe's gates as they were measured here, whatever is still open."""

from collections.abc import Sequence

from cmpe_jax import names
from cmpe_jax.data.datasets import known_folders
from cmpe_jax.errors import UserError
from cmpe_jax.tools.board import page
from cmpe_jax.tools.board.gathered import Gathered
from cmpe_jax.tools.shared import paired, rows, variants

RECIPE = 'cifar10_short'
BEGIN, END = '<!-- The board draws what follows. -->\n', '<!-- Here it ends. -->\n'
NOTHING = """What the short recipe [`{recipe}`](configs/{recipe}.py) says of it is still open: no run has finished yet.
Two commands put the table here, the first of which can be interrupted and goes on:

* `python -m cmpe_jax.tools.compare {arguments}`
* `python -m cmpe_jax.tools.board`
"""
OPEN = '"open": not measured yet; a difference takes two seeds that both gates have.'
HEAD = """This is what the short recipe [`{recipe}`](configs/{recipe}.py) gave. A loss is shown like a win:

"""
SAID = """
{about}{epochs}; seeds run so far: {seeds}. Mean ± standard deviation; the differences are paired by seed, in
percentage points of accuracy, with the {confidence:.0%} interval of Student's t, each for itself. "{none}" means that
the interval covers 0, which is no proof of equality.
{open}More is in [docs/results.md](docs/results.md).

* `{command}`
{origins}"""


def section(found: Sequence[Gathered]) -> str:
  """The table and what made it, or how it can be made."""
  same = [each for each in found if each.config == RECIPE and each.varied == ['model.gate']]
  each = max(same, key=_weight, default=None)
  if each is None or not any(each.runs.values()):
    given = [f'--config=configs/{RECIPE}.py', f'--gates={",".join(names.GATES)}', '--seeds=3']
    arguments = ' '.join([*given, f'--results=docs/results/{RECIPE}.json'])
    return NOTHING.format(recipe=RECIPE, arguments=arguments)
  table = page.table([_heading(), *_lines({gate: each.runs.get(gate, {}) for gate in names.GATES})])
  about = known_folders.about(each.identity['dataset'])
  return (
    HEAD.format(recipe=RECIPE)
    + table
    + SAID.format(
      about=about + ' ' * bool(about),
      epochs=variants.counted(each.identity['epochs']),
      seeds=', '.join(map(str, sorted({seed for found in each.runs.values() for seed in found}))),
      confidence=paired.CONFIDENCE,
      none=paired.NONE,
      open=''.join(line + '\n' for line in [OPEN, *page.missing(each)]) if rows.OPEN in table else '',
      command=page.command(each),
      origins=''.join(f'* {origin}\n' for origin in page.origins(each)),
    )
  )


def _weight(each: Gathered) -> tuple[bool, int]:
  """The recipe as it stands in configs/, whatever its images, comes before others, and more runs before fewer."""
  return set(each.changes()) <= {'dataset'}, sum(map(len, each.runs.values()))


def _heading() -> list[str]:
  return ['gate', 'runs', 'test error', *(f'accuracy minus `{name}`' for name in rows.REFERENCES)]


def _lines(runs: rows.Runs) -> list[list[str]]:
  parameters = dict.fromkeys(runs, 0)  # not shown
  lines = []
  for row in rows.rows(runs, rows.REFERENCES, parameters):
    compared = ['-' if row.name == name else rows.shown(row.differences.get(name)) for name in rows.REFERENCES]
    lines.append([f'`{row.name}`', str(len(row.seeds)), rows.spread(100 - row.mean, row), *compared])
  return lines


def replaced(text: str, found: Sequence[Gathered]) -> str:
  """README.md with this section drawn anew. Raises `UserError` if it has no place for it."""
  before, begins, rest = text.partition(BEGIN)
  _, ends, after = rest.partition(END)
  if not begins or not ends:
    raise UserError(f'--readme has no lines {BEGIN.strip()} and {END.strip()}: put them where its table belongs.')
  return f'{before}{BEGIN}\n{section(found)}\n{END}{after}'
