"""Draws docs/gates.svg, the README's picture of the block and its gates: `python docs/gates.py`."""

import pathlib

from drawing import BLUE, GREEN, INK, ORANGE, PALE, arrow, box, drawing, text

# How strong the signals of the drawn channels are.
U = (0.9, 0.35, 0.6, 0.2, 0.75, 0.45, 0.85, 0.3, 0.5, 0.95, 0.25, 0.7, 0.4, 0.8, 0.55, 0.3, 0.65, 0.9, 0.35, 0.6, 0.25)
V = (0.3, 0.8, 0.45, 0.7, 0.25, 0.9, 0.5, 0.65, 0.85, 0.3, 0.6, 0.4, 0.95, 0.35, 0.7, 0.55, 0.25, 0.5, 0.8, 0.4, 0.75)


def cell(x, y, side, strength, color):
  """One value of a descriptor."""
  return (
    f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="{color}" fill-opacity="{0.15 + 0.8 * strength:.2f}" '
    f'stroke="#ffffff" stroke-width="1"/>'
  )


def column(x, y, values, color, side=13):
  """A descriptor, one channel below the other."""
  return ''.join(cell(x, y + i * side, side, value, color) for i, value in enumerate(values))


def kernel(x, y, columns, rows, side=13):
  """The outline of a map filter."""
  return box(x - 1, y - 1, columns * side + 2, rows * side + 2, 'none', INK, 2, 2.2)


def layer(x, y, height, name):
  """A dense layer: a thin upright box with its number of outputs below."""
  return box(x, y, 16, height, '#eef1f5', PALE, 4) + text(x + 8, y + height + 16, name, 12, PALE, 'middle')


def block(x, y):
  """The residual block with its gate."""
  parts = [
    text(x, y + 78, 'x', 16, weight='bold'),
    arrow((x + 16, y + 73), (x + 70, y + 73)),
    box(x + 70, y + 42, 150, 62, '#e8f0fa', BLUE),
    text(x + 145, y + 69, 'residual branch', 13, anchor='middle'),
    text(x + 145, y + 88, 'BN, ReLU, conv ...', 12, PALE, 'middle'),
    arrow((x + 40, y + 73), (x + 40, y + 168), (x + 70, y + 168)),
    box(x + 70, y + 138, 150, 60, '#fdf0e3', ORANGE),
    text(x + 145, y + 164, 'identity', 13, anchor='middle'),
    text(x + 145, y + 183, '(or 1x1 projection)', 12, PALE, 'middle'),
    arrow((x + 220, y + 73), (x + 646, y + 73)),
    text(x + 232, y + 65, 'r', 14, BLUE, weight='bold'),
    arrow((x + 220, y + 168), (x + 730, y + 168), (x + 730, y + 88)),
    text(x + 232, y + 187, 'x_id', 14, ORANGE, weight='bold'),
    arrow((x + 290, y + 73), (x + 290, y + 105), (x + 330, y + 105)),
    arrow((x + 290, y + 168), (x + 290, y + 136), (x + 330, y + 136)),
    text(x + 334, y + 110, 'mean: u', 13, BLUE),
    text(x + 334, y + 141, 'mean: v', 13, ORANGE),
    arrow((x + 392, y + 105), (x + 436, y + 112)),
    arrow((x + 392, y + 136), (x + 436, y + 129)),
    box(x + 438, y + 98, 84, 45, '#e9f5ec', GREEN),
    text(x + 480, y + 126, 'gate', 15, anchor='middle', weight='bold'),
    arrow((x + 522, y + 120), (x + 660, y + 120), (x + 660, y + 88)),
    text(x + 532, y + 113, 's, one per channel', 12, GREEN),
    f'<circle cx="{x + 660}" cy="{y + 73}" r="13" fill="#ffffff" stroke="{INK}" stroke-width="1.5"/>',
    text(x + 660, y + 78, '×', 17, anchor='middle'),
    arrow((x + 673, y + 73), (x + 716, y + 73)),
    f'<circle cx="{x + 730}" cy="{y + 73}" r="13" fill="#ffffff" stroke="{INK}" stroke-width="1.5"/>',
    text(x + 730, y + 78, '+', 17, anchor='middle'),
    arrow((x + 743, y + 73), (x + 790, y + 73)),
    text(x + 798, y + 78, 'y = x_id + s · r', 16, weight='bold'),
  ]
  return ''.join(parts)


def dense_pair(x, y, first='h', height=70):
  """The two dense layers at the end of a gate, and its output."""
  middle = y + height / 2
  return ''.join(
    [
      arrow((x, middle), (x + 24, middle)),
      layer(x + 26, y, height, first),
      arrow((x + 42, middle), (x + 66, middle)),
      layer(x + 68, y, height, 'C'),
      arrow((x + 84, middle), (x + 108, middle)),
      text(x + 114, middle + 5, 's', 15, GREEN, weight='bold'),
    ]
  )


def card(x, y, key, title, note, body):
  """A panel: the value of config.model.gate, the paper's name, a picture, one line of text."""
  return ''.join(
    [
      box(x, y, 312, 196),
      text(x + 14, y + 24, key, 14, GREEN, weight='bold', mono=True),
      text(x + 298, y + 24, title, 12, PALE, 'end'),
      body(x, y),
      text(x + 14, y + 184, note, 12, PALE),
    ]
  )


def none(x, y):
  """No gate."""
  return text(x + 156, y + 103, 's = 1', 18, anchor='middle')


def squeeze_excite(x, y):
  """SE: the residual alone decides."""
  return (
    column(x + 50, y + 46, U[:8], BLUE)
    + text(x + 44, y + 102, 'u', 14, BLUE, 'end', 'bold')
    + dense_pair(x + 74, y + 63)
  )


def double_fc(x, y):
  """Double FC: each descriptor has its own first layer."""
  parts = [
    column(x + 40, y + 40, U[:4], BLUE),
    column(x + 40, y + 104, V[:4], ORANGE),
    text(x + 34, y + 70, 'u', 14, BLUE, 'end', 'bold'),
    text(x + 34, y + 134, 'v', 14, ORANGE, 'end', 'bold'),
    arrow((x + 58, y + 66), (x + 84, y + 66)),
    arrow((x + 58, y + 130), (x + 84, y + 130)),
    box(x + 86, y + 42, 16, 48, '#eef1f5', PALE, 4),
    box(x + 86, y + 106, 16, 48, '#eef1f5', PALE, 4),
    text(x + 108, y + 56, 'h', 12, PALE),
    text(x + 108, y + 150, 'h', 12, PALE),
    arrow((x + 102, y + 70), (x + 150, y + 92)),
    arrow((x + 102, y + 126), (x + 150, y + 104)),
    layer(x + 152, y + 63, 70, 'C'),
    arrow((x + 168, y + 98), (x + 192, y + 98)),
    text(x + 198, y + 103, 's', 15, GREEN, weight='bold'),
  ]
  return ''.join(parts)


def filtered(x, y):
  """m filters, batch normalization, mean over the filters."""
  return ''.join(
    [
      arrow((x, y + 98), (x + 22, y + 98)),
      box(x + 24, y + 72, 74, 52, '#eef1f5', PALE, 4),
      text(x + 61, y + 93, 'm filters,', 12, anchor='middle'),
      text(x + 61, y + 110, 'BN, mean', 12, anchor='middle'),
    ]
  )


def pair_view(columns):
  """The pair view, read by filters that span `columns`."""

  def body(x, y):
    map_x, map_y = x + 24, y + 42
    return ''.join(
      [
        column(map_x, map_y, U[:8], BLUE),
        column(map_x + 13, map_y, V[:8], ORANGE),
        kernel(map_x, map_y + 26, columns, 1),
        text(map_x + 6, y + 161, 'u', 13, BLUE, 'middle', 'bold'),
        text(map_x + 20, y + 161, 'v', 13, ORANGE, 'middle', 'bold'),
        filtered(x + 56, y),
        dense_pair(x + 156, y + 63),
      ]
    )

  return body


def folded(x, y):
  """The folded map: rows alternate residual and identity."""
  parts = []
  for row in range(8):
    signals, color = (U, BLUE) if row % 2 == 0 else (V, ORANGE)
    first = row // 2 * 5
    parts += [cell(x + 14 + 13 * i, y + 46 + 13 * row, 13, signals[first + i], color) for i in range(5)]
  parts += [kernel(x + 14 + 13, y + 46 + 26, 3, 3), filtered(x + 81, y), dense_pair(x + 180, y + 63)]
  return ''.join(parts)


def picture():
  """The whole drawing."""
  cards = [
    ('none', 'plain residual network', 'The residual is added as it is.', none),
    ('se', 'squeeze and excitation', 'The residual alone decides its scale.', squeeze_excite),
    ('double_fc', 'CMPE-SE, double FC', 'Residual and identity compete.', double_fc),
    ('pair_1x1', 'CMPE-SE, conv 1x1 pair view', 'Both as an image of 2 columns; default.', pair_view(1)),
    ('pair_2x1', 'CMPE-SE, conv 2x1 pair view', 'The filter sees a channel of both.', pair_view(2)),
    ('folded_3x3', 'CMPE-SE, folded 3x3', 'The image folded: neighbours compete too.', folded),
  ]
  panels = [card(16 + i % 3 * 324, 236 + i // 3 * 208, *items[:3], items[3]) for i, items in enumerate(cards)]
  return drawing(992, 652, block(36, 2), *panels)


if __name__ == '__main__':
  pathlib.Path(__file__).with_suffix('.svg').write_text(picture())
