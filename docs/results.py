"""Draws docs/results.svg, the paper's numbers in the tables of docs/results.md as dots: `python docs/results.py`."""

import pathlib
import re

from drawing import BLUE, GREEN, INK, LINE, ORANGE, PALE, drawing, text

HERE = pathlib.Path(__file__).parent
COLORS = {'none': PALE, 'se': BLUE, 'double_fc': ORANGE, 'pair_2x1': '#8cc79f', 'pair_1x1': GREEN}
NAMES = {
  'resnet110': 'ResNet-110',
  'resnet164': 'ResNet-164',
  'wrn16_8': 'WRN-16-8',
  'wrn22_10': 'WRN-22-10',
  'wrn28_10': 'WRN-28-10',
}
LEFT, RIGHT, ROW, TOP = 150, 612, 46, 84  # of a panel: its axis from left to right, its rows, and the first of them


def numbers():
  """{network: {gate: (CIFAR-10, with mixup, CIFAR-100, with mixup)}}, None where nothing is reported."""
  rows, net = {}, ''
  for line in (HERE / 'results.md').read_text().splitlines():
    match = re.fullmatch(r'\| (?:`cifar\d+_(\w+)` )?\| `(\w+)` \| (.*) \|', line)
    if match:
      net = match[1] or net
      plain, _, mixup, _ = match[3].split(' | ')
      found = [None if cell == '-' else float(cell) for cell in (plain, mixup)]
      rows.setdefault(net, {}).setdefault(match[2], []).extend(found)
  return rows


def dot(x, y, color, filled):
  """A result."""
  return (
    f'<circle cx="{x:.1f}" cy="{y}" r="6" fill="{color if filled else "#ffffff"}" stroke="{color}" stroke-width="2.5"/>'
  )


def panel(y, title, column, low, high):
  """A dataset: a row a network, its results without mixup above, with mixup below."""

  def place(value):
    return LEFT + (value - low) / (high - low) * (RIGHT - LEFT)

  rows = numbers()
  bottom = y + TOP + ROW * len(rows) - 22
  parts = [text(24, y + 30, title, 17, weight='bold'), text(RIGHT, y + 30, 'test error, %', 14, PALE, 'end')]
  for value in range(low, high + 1, 1 if high - low < 8 else 2):
    x = place(value)
    parts += [
      f'<line x1="{x:.1f}" y1="{y + TOP - 28}" x2="{x:.1f}" y2="{bottom}" stroke="{LINE}" stroke-width="1"/>',
      text(round(x, 1), y + TOP - 34, str(value), 13, PALE, 'middle'),
    ]
  for i, (net, gates) in enumerate(rows.items()):
    middle = y + TOP + ROW * i
    parts.append(text(LEFT - 14, middle + 5, NAMES[net], 14, anchor='end'))
    if i:
      parts.append(
        f'<line x1="24" y1="{middle - 23}" x2="{RIGHT}" y2="{middle - 23}" stroke="{LINE}" stroke-width="0.7"/>'
      )
    for mixup in (0, 1):
      for gate, values in gates.items():
        if values[column + mixup] is not None:
          parts.append(dot(place(values[column + mixup]), middle + (8 if mixup else -8), COLORS[gate], not mixup))
  return ''.join(parts)


def legend(x, y):
  """The gates, and what full and empty dots are."""
  parts = []
  for gate, color in COLORS.items():
    parts += [dot(x, y - 5, color, True), text(x + 12, y, gate, 14, mono=True)]
    x += 44 + 8.7 * len(gate)
  parts += [dot(x + 6, y - 5, INK, False), text(x + 18, y, 'with mixup', 14)]
  return ''.join(parts)


def picture():
  """The whole drawing."""
  return drawing(
    636,
    700,
    text(24, 34, 'As the paper reports it (arXiv 1807.08920), not measured here', 15, PALE),
    legend(30, 66),
    panel(74, 'CIFAR-10', 0, 2, 7),
    panel(386, 'CIFAR-100', 2, 16, 26),
  )


if __name__ == '__main__':
  pathlib.Path(__file__).with_suffix('.svg').write_text(picture())
