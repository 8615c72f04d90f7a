"""Learning curves of runs that were not measured at the same steps, against a line that they all lie on."""

import numpy as np

from cmpe_jax.tools.compare import charts


def line(*epochs, offset=0.0):
  found = np.array(epochs, np.float64)
  return found, 50 - 4 * found + offset


def mean_of(*lines):
  figure = charts.learning({'test error, %': {'se': list(lines)}})
  *_, thick = figure.axes[0].lines
  return thick.get_xdata(), thick.get_ydata()


def test_the_mean_of_runs_that_were_evaluated_at_other_steps():
  rare, often = line(2, 4, 6, offset=1), line(1, 2, 3, 4.003, 5, 6, offset=-2)
  for lines in ([rare, often], [often, rare]):
    epochs, values = mean_of(*lines)
    np.testing.assert_array_equal(epochs, [2, 4, 6])
    np.testing.assert_allclose(values, 50 - 4 * epochs - 0.5)


def test_the_mean_ends_with_the_run_that_ended_first():
  epochs, values = mean_of(line(1, 2, 3, 4, 5, 6), line(1, 2, 3, 4, offset=4))
  np.testing.assert_array_equal(epochs, [1, 2, 3, 4])
  np.testing.assert_allclose(values, 52 - 4 * epochs)
