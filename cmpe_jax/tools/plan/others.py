"""What others report for a ResNet-50 on ImageNet, with their own code and on their machines. Nothing of it is ours."""

from cmpe_jax.runtime.printing import aligned

FFCV = 'github.com/libffcv/ffcv-imagenet'
FLAX = 'github.com/google/flax/blob/main/examples/imagenet/README.md'
MOSAIC = 'www.databricks.com/blog/mlperf-2022'
# (what, how long, machines, hours, top-1 accuracy in percent, where it stands); MLPerf's target is 75.9 %.
REPORTED = (
  ('ffcv, PyTorch', '16 epochs', '8 x A100', 14.9 / 60, 73.8, FFCV),
  ('ffcv, PyTorch', '32 epochs', '8 x A100', 28.7 / 60, 76.6, FFCV),
  ('ffcv, PyTorch', '88 epochs', '8 x A100', 77.2 / 60, 78.4, FFCV),
  ('Composer in MLPerf Training 2.0, open division', 'to its target', '8 x A100', 23.8 / 60, 75.9, MOSAIC),
  ("Composer's baseline there", 'to its target', '8 x A100', 110.5 / 60, 75.9, MOSAIC),
  ('NVIDIA in MLPerf Training 2.0, closed division', 'to its target', '8 x A100', 28.7 / 60, 75.9, MOSAIC),
  ("flax's example", '125,100 steps', 'TPU v3-32', 2.1, 76.54, FLAX),
  ("flax's example", '125,100 steps', 'TPU v3-8', 4.4, 76.37, FLAX),
  ("flax's example, mixed precision", '62,500 steps', '8 x V100', 4.3, 76.27, FLAX),
)


def table() -> str:
  """Aligned, with its sources."""
  rows = [['what others report', '', 'machines', 'hours', 'top-1', 'source']]
  for what, length, machines, hours, accuracy, source in REPORTED:
    rows.append([what, length, machines, f'{hours:.2f}', f'{accuracy:g} %', source])
  widest = max(len(row[3]) for row in rows), max(len(row[4]) for row in rows)
  rows = [[*row[:3], row[3].rjust(widest[0]), row[4].rjust(widest[1]), row[5]] for row in rows]
  return aligned(rows, left=None)
