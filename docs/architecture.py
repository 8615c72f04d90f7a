"""Draws docs/architecture.svg, floors of the package and ways through its files: `python docs/architecture.py`."""

import pathlib

from drawing import BLUE, GREEN, INK, LINE, ORANGE, PALE, arrow, box, drawing, text

VIOLET = '#7a5aa6'
# Each floor with its colour and what it does; a file imports from its own floor and from those below.
FLOORS = (
  ('tools', VIOLET, 'compare, predict, visualize, export, ...'),
  ('training', GREEN, 'a run: its parts, its steps, its results'),
  ('data', BLUE, 'which images, and how'),
  ('models', ORANGE, 'networks and gates'),
  ('runtime', PALE, 'commands, devices, processes, signals'),
)
COLORS = {name: color for name, color, _ in FLOORS} | {'': INK}
# Three ways: floor, file, what happens there. An empty floor: a file that lies above all floors and imports from none.
CONFIG = (
  ('', 'keys.py', 'defaults, ranges'),
  ('', 'configs/NAME.py', 'what is different'),
  ('runtime', 'command.py', '--config.KEY=VALUE'),
  ('', 'config.py', 'check()'),
  ('data', 'datasets/', 'sizes, classes: resolve()'),
  ('models', 'builder.py', 'the network'),
  ('training', 'run.py', 'all parts, once: Run'),
  ('training', 'checkpoint.py', 'saved with the state'),
)
BATCH = (
  ('data', 'order.py', '(seed, step) to examples'),
  ('data', 'resident.py', 'lie on the device, or ...'),
  ('data', 'streamed.py', '... are read ahead'),
  ('training', 'step.py', 'from here in one program'),
  ('data', 'augment.py', 'crop, mirror, normalize'),
  ('models', 'resnet.py', 'blocks, gates: logits'),
  ('training', 'objective.py', 'the loss'),
  ('training', 'metrics.py', 'sums, read 3 calls later'),
)
STATE = (
  ('models', 'initializers.py', 'by the seed and a path'),
  ('training', 'warm_start.py', 'or of another run'),
  ('runtime', 'mesh.py', 'a copy on each device'),
  ('training', 'loop.py', 'call by call'),
  ('training', 'step.py', 'the new one from the old'),
  ('training', 'checkpoint.py', 'whole arrays, by name'),
  ('training', 'evaluate.py', 'every image once'),
  ('training', 'trained.py', 'a network to use'),
)
WIDTH, STEP, HEIGHT = 186, 70, 50  # of a box of a way; from one box to the next


def floor(x, y, width, name):
  """A floor of the house."""
  words = next(words for other, _, words in FLOORS if other == name)
  return ''.join(
    [
      box(x, y, width, 46, '#ffffff', COLORS[name], 5, 2),
      text(x + 14, y + 29, name, 15, COLORS[name], weight='bold', mono=True),
      text(x + width - 14, y + 29, words, 14, PALE, 'end'),
    ]
  )


def house(x, y):
  """The floors, one above the other."""
  return ''.join(
    [
      floor(x, y, 572, 'tools'),
      floor(x, y + 52, 572, 'training'),
      floor(x, y + 104, 283, 'data'),
      floor(x + 289, y + 104, 283, 'models'),
      floor(x, y + 156, 572, 'runtime'),
      text(
        x, y + 228, 'Imports go down, or sideways on a floor. All may import names, keys, config and errors.', 14, PALE
      ),
    ]
  )


def way(x, y, title, stations):
  """What passes through which files, from above to below."""
  parts = [text(x + WIDTH / 2, y, title, 16, anchor='middle', weight='bold')]
  for i, (place, file, words) in enumerate(stations):
    top, color = y + 16 + i * STEP, COLORS[place]
    if i:
      parts.append(arrow((x + WIDTH / 2, top - STEP + HEIGHT), (x + WIDTH / 2, top - 1)))
    parts += [
      box(x, top, WIDTH, HEIGHT, '#ffffff', color if place else LINE, 5, 2),
      text(x + 12, top + 21, file, 14, color, weight='bold', mono=True),
      text(x + 12, top + 40, words, 13, PALE),
    ]
  return ''.join(parts)


def picture():
  """The whole drawing."""
  return drawing(
    612,
    876,
    house(20, 18),
    way(20, 294, 'a configuration', CONFIG),
    way(213, 294, 'a batch', BATCH),
    way(406, 294, 'the state', STATE),
  )


if __name__ == '__main__':
  pathlib.Path(__file__).with_suffix('.svg').write_text(picture())
