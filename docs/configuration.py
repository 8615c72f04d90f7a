"""Writes docs/configuration.md, the table of all keys, from cmpe_jax/keys.py: `python -m docs.configuration`."""

import pathlib

from cmpe_jax import keys

HEAD = """# Configuration

<!-- Written by docs/configuration.py from cmpe_jax/keys.py: change it there. -->

A configuration is a Python file with a function `get_config()`, which takes `cmpe_jax.config.base()`, the defaults
below, and sets what is different. Those in `configs/` are short ones. Every key can be set on the command line:

```sh
python -m cmpe_jax.main --config=configs/digits.py --config.seed=1 --config.model.gate=se --workdir=runs/se
```

What follows from other keys is not a key. The learning rate of a batch, the number of steps and the steps at which the
rate falls are computed when the training starts, so an override never goes stale. A wrong key or value ends at once,
with exit code 2 and a sentence.

A run that goes on from a checkpoint must have the configuration that it began with. Keys marked with *yes* in the last
column may change: they decide where data lie, what is said and when, how much memory a step takes, or how long the run
is, but not, up to rounding, what a step computes. (`epochs` moves what is given in parts of the run, such as
`decay_fractions`.)
"""


def cell(text: str) -> str:
  """Text in a table."""
  return text.replace('|', '\\|')


def code(value: object) -> str:
  """A value as Python writes it."""
  return f'`{value!r}`'


def allowed(key: keys.Key) -> str:
  """The range or the choices of a key."""
  if key.choices:
    return ', '.join(map(code, key.choices))
  if key.low is None and key.high is None:
    return 'True, False' if isinstance(key.default, bool) else ''
  if key.high is None:
    return f'at least {key.low:g}'
  return f'{key.low:.10g} to {key.high:.10g}'


def table(rows: dict[str, keys.Key]) -> str:
  """A row a key."""
  lines = ['| key | default | allowed | meaning | may change |', '|---|---|---|---|---|']
  for name, key in rows.items():
    cells = [f'`{name}`', code(key.default), allowed(key), key.meaning, 'yes' if key.free else '']
    lines.append(f'| {" | ".join(map(cell, cells))} |')
  return '\n'.join(lines)


def page() -> str:
  """The whole page."""
  model = {f'model.{name}': key for name, key in keys.MODEL.items()}
  return '\n'.join(
    [HEAD, '## The network', '', table(model), '', '## Data, training, results', '', table(keys.KEYS), '']
  )


if __name__ == '__main__':
  pathlib.Path(__file__).with_suffix('.md').write_text(page())
