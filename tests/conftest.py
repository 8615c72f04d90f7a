"""Eight fake CPU devices for the whole suite; the digits and compiled programs kept between its processes and runs."""

import getpass
import importlib.metadata
import os
import pathlib
import platform
import signal
import tempfile

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
KEPT = pathlib.Path(tempfile.gettempdir()) / f'cmpe_jax_tests_{getpass.getuser()}'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(KEPT))
os.environ['TFDS_DATA_DIR'] = f'{KEPT}_data'  # not the user's own
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.5'
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as after `make test &`; programs inherit it
  signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter):
  """What the tests ran with."""
  names = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'tensorflow-datasets', 'numpy')
  versions = ', '.join(f'{name} {importlib.metadata.version(name)}' for name in names)
  terminalreporter.write_line(f'Python {platform.python_version()}, {versions}')
