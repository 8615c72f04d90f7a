"""What the pictures of this folder are drawn with: colours, words, boxes and arrows, as SVG."""

BLUE, ORANGE, GREEN, INK, PALE, LINE = '#2f6db3', '#d9781f', '#3f8f5b', '#1f2430', '#6b7280', '#c9ced6'


def text(x, y, words, size=13, color=INK, anchor='start', weight='normal', mono=False):
  """A line of text; x_id becomes x with a lowered id."""
  family = 'ui-monospace, Menlo, Consolas, monospace' if mono else 'Helvetica, Arial, sans-serif'
  lowered = f'x<tspan dy="4" font-size="{size * 0.75:g}">id</tspan><tspan dy="-4">\u200b</tspan>'
  return (
    f'<text x="{x}" y="{y}" font-family="{family}" font-size="{size}" font-weight="{weight}" fill="{color}" '
    f'text-anchor="{anchor}">{words.replace("x_id", lowered)}</text>'
  )


def box(x, y, width, height, fill='#ffffff', stroke=LINE, radius=6, thick=1.2):
  """A rectangle with round corners."""
  return (
    f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}" fill="{fill}" stroke="{stroke}" '
    f'stroke-width="{thick}"/>'
  )


def arrow(*points, color=INK):
  """A line through the points with a head at its end."""
  path = ' '.join(f'{x},{y}' for x, y in points)
  return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5" marker-end="url(#head)"/>'


def drawing(width, height, *parts):
  """The whole picture, on white paper."""
  return '\n'.join(
    [
      f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
      '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
      f'<path d="M0,0 L8,4 L0,8 z" fill="{INK}"/></marker></defs>',
      f'<rect width="{width}" height="{height}" rx="10" fill="#ffffff"/>',
      *parts,
      '</svg>\n',
    ]
  )
