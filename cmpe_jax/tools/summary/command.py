"""How large a network is: `python -m cmpe_jax.tools.summary --config=configs/digits.py [--config.model.gate=se]`.

Parameters, MACs and activations of each stage, and those of all gates side by side, with the parameters that the paper
prints. It reads no data and compiles nothing.
"""

import dataclasses
import json
import pathlib
from typing import Any

import jax.numpy as jnp
import ml_collections
from absl import flags

from cmpe_jax import names
from cmpe_jax.config import check
from cmpe_jax.data import datasets
from cmpe_jax.errors import UserError
from cmpe_jax.runtime import command, files, printing
from cmpe_jax.runtime.printing import aligned
from cmpe_jax.tools.shared import paper, sizes
from cmpe_jax.tools.shared.sizes import Part

NUMBERS = ('trainable', 'frozen', 'statistics', 'macs', 'gate_macs', 'activations')


def by_gate(config: ml_collections.ConfigDict) -> tuple[dict[str, Part], dict[str, str]]:
  """The whole network with each of the gates, and for those that it cannot have, the reason."""
  found, refused = {}, {}
  for gate in names.GATES:
    other = ml_collections.ConfigDict(config.to_dict())
    other.model.gate = gate
    try:
      found[gate] = sizes.total(sizes.parts(other))
    except UserError as error:
      refused[gate] = str(error)
  return found, refused


def parts_table(parts: list[Part], dtype: str) -> str:
  """A row a part, and one of the whole."""
  rows = [['', 'output', 'blocks', *_heading(parts), 'MACs', 'of gates', 'activations', f'in {dtype}']]
  for part in [*parts, sizes.total(parts)]:
    output = '' if part.name == 'total' else 'x'.join(map(str, part.output))
    cells = [part.name, output, str(part.blocks or ''), *_counts(part, parts)]
    rows.append([*cells, *_costs(part), _bytes(part.activations * jnp.dtype(dtype).itemsize)])
  return aligned(rows)


def gates_table(found: dict[str, Part], refused: dict[str, str], config: ml_collections.ConfigDict) -> str:
  """A row a gate, the configured one marked; the paper's figures in the last column if it has any."""
  printed, every = paper.parameters(config.model), list(found.values())
  rows = [['gate', *_heading(every), 'together', 'MACs', 'of gates', 'activations'] + ['the paper'] * bool(printed)]
  for gate, part in found.items():
    name = gate + (' *' if gate == config.model.gate else '')
    cells = [name, *_counts(part, every), f'{part.trainable + part.frozen + part.statistics:,}', *_costs(part)]
    figure = f'{printed[gate]} M' if gate in printed else '-'
    rows.append(cells + [figure] * bool(printed))
  notes = [f'\n{gate} is not possible here: {reason}' for gate, reason in refused.items()]
  return aligned(rows) + ''.join(notes) + (f'\n{paper.NOTE}' if printed else '')


def _heading(parts: list[Part]) -> list[str]:
  return ['trainable', *(['frozen'] if any(part.frozen for part in parts) else []), 'statistics']


def _counts(part: Part, parts: list[Part]) -> list[str]:
  frozen = [f'{part.frozen:,}'] if any(other.frozen for other in parts) else []
  return [f'{part.trainable:,}', *frozen, f'{part.statistics:,}']


def _costs(part: Part) -> list[str]:
  return [f'{part.macs:,}', f'{part.gate_macs:,}', f'{part.activations:,}']


def _bytes(count: int) -> str:
  return f'{count / 2**20:,.2f} MiB'


def main() -> None:
  """The command."""
  config, output = command.given_config('configs/digits.py'), flags.FLAGS.json
  check(config)
  file = files.local(output, 'json') if output else None
  config = datasets.describe(config).resolve(config)
  model, parts = config.model, sizes.parts(config)
  printing.line(
    f'{command.config_name()}: {model.backbone} {model.depth}, gate {model.gate} ({model.gate_form} form), '
    f'{model.num_classes} classes; one image of {config.image_size}x{config.image_size} pixels\n'
  )
  printing.line(parts_table(parts, config.dtype) + '\n')
  found, refused = by_gate(config)
  printing.line(gates_table(found, refused, config))
  if file:
    write(file, parts, found, paper.parameters(model))


def write(path: pathlib.Path, parts: list[Part], found: dict[str, Part], printed: dict[str, float]) -> None:
  """The same as JSON. Raises `UserError` if it cannot be written."""
  gates: dict[str, Any] = {
    gate: {name: getattr(part, name) for name in NUMBERS} | {'paper_millions': printed.get(gate)}
    for gate, part in found.items()
  }
  content = {'parts': [dataclasses.asdict(part) for part in parts], 'gates': gates}
  files.write(path, json.dumps(content, indent=2) + '\n', 'json')
