"""Eight fake CPU devices for the whole suite; the digits and compiled programs kept between its processes and runs."""

import getpass
import os
import pathlib
import tempfile

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
KEPT = pathlib.Path(tempfile.gettempdir()) / f'cmpe_jax_tests_{getpass.getuser()}'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(KEPT))
os.environ['TFDS_DATA_DIR'] = f'{KEPT}_data'  # not the user's own
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.5'
