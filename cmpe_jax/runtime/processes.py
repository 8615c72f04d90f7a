"""Several processes that train together: their start, what they agree on, and how they end.

Every wait has a name and a time limit. A process that dies takes the others down within `HEARTBEAT` seconds, with
exit code 75: the same command on all of them goes on from what was saved.
"""

import glob
import importlib.util
import itertools
import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax

from cmpe_jax.errors import Interrupted, UserError
from cmpe_jax.runtime import peers, places, printing, watch

T = TypeVar('T')
HEARTBEAT = 20  # seconds without a sign of life after which a process counts as dead
PATIENCE = 300  # seconds that a process waits for the others at a barrier
SLICE = ('TPU_WORKER_HOSTNAMES', 'TPU_PROCESS_ADDRESSES', 'MEGASCALE_COORDINATOR_ADDRESS')  # name a slice's machines
METADATA = os.environ.get('GCE_METADATA_IP', 'metadata.google.internal')  # tells a machine of Google Cloud who it is
_turn = itertools.count()  # every process passes the same barriers in the same order


def start(address: str | None, processes: int | None, process: int | None, patience: int = PATIENCE) -> None:
  """Joins the processes: those of the three arguments, or of the TPU slice or Slurm step that this one is part of.

  Must come before JAX looks for devices. Does nothing where there is one process.

  Args:
    address: 'HOST:PORT' of process 0, the same in all processes.
    processes: how many there are.
    process: which one this is, from 0.
    patience: seconds to wait for all of them.

  Raises:
    UserError: some, but not all, of the three are given, or they do not fit.
    Interrupted: not all of them came in time.
  """
  given: dict[str, Any] = {'coordinator_address': address, 'num_processes': processes, 'process_id': process}
  missing = [f'--{name}' for name, value in given.items() if value is None]
  if 0 < len(missing) < 3:
    raise UserError(f'{" and ".join(missing)} is missing: the three flags of a distributed start belong together.')
  if missing and not _is_in_cluster():
    return
  if not missing:
    _check(str(address), int(processes or 0), int(process or 0))
    given['cluster_detection_method'] = 'deactivate'
  peers.end_when_alone(client)  # now: JAX aborts a process, too, to whose start the others do not come
  jax.config.update('jax_enable_preemption_service', False)  # it cannot be told of SIGINT; `Stop` takes its place
  try:
    jax.distributed.initialize(
      **given,
      initialization_timeout=patience,
      heartbeat_timeout_seconds=HEARTBEAT,
      shutdown_timeout_seconds=HEARTBEAT,
    )
  except RuntimeError as error:
    text = str(error).splitlines()[0]
    raise Interrupted(f'not all processes came to the start within {patience} s ({text}).') from error
  except (ValueError, OSError) as error:
    _go_alone(error, explicit=not missing)
    return
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  watch.meet(client)


def _go_alone(error: ValueError | OSError, explicit: bool) -> None:
  """TPU chips without a cluster around them, as in a workstation or a notebook: one process, and a line that says so.

  Raises:
    Interrupted: a machine of Google Cloud could not be asked; alone it must not train if it is one of several.
    ValueError, OSError: `error`, where the environment does name other machines.
  """
  if explicit or _in_slurm_step() or any(os.environ.get(name) for name in SLICE):
    raise error
  text = str(error).splitlines()[0][:200]
  if isinstance(error, OSError) and _resolves(METADATA.split(':')[0]):
    raise Interrupted(f'{METADATA} did not answer which TPU slice this machine is part of ({text}).') from error
  peers.leave_aborts()
  printing.line(
    f'one process: this machine has TPU chips, but no cluster that JAX knows ({text}). If it is one of several, give '
    '--coordinator_address, --num_processes and --process_id.',
    sys.stderr,
  )


def _resolves(host: str) -> bool:
  try:
    return bool(socket.getaddrinfo(host, 80))
  except OSError:
    return False


def _check(address: str, processes: int, process: int) -> None:
  host, _, port = address.rpartition(':')
  if not host or not port.isdecimal():
    raise UserError(f'--coordinator_address={address} is not HOST:PORT: give the address of process 0.')
  if not 0 <= process < processes:
    raise UserError(f'--process_id={process} does not fit --num_processes={processes}: count from 0.')


def _is_in_cluster() -> bool:
  """Whether JAX can find the other processes itself: a Slurm step of several tasks, or a machine with TPU chips."""
  if _in_slurm_step():
    return True
  has_chips = glob.glob('/dev/accel[0-9]*') or glob.glob('/dev/vfio/[0-9]*')
  return bool(has_chips and importlib.util.find_spec('libtpu'))


def _in_slurm_step() -> bool:
  return 'SLURM_STEP_NODELIST' in os.environ and int(os.environ.get('SLURM_NTASKS', '1')) > 1


def client() -> Any:
  """JAX's key-value store and barriers."""
  from jax._src import distributed  # JAX has no public way to its key-value store and barriers

  return distributed.global_state.client


def barrier(name: str, seconds: float = PATIENCE) -> None:
  """Waits until all processes are here. Raises `Interrupted`, naming those that are not, after `seconds`."""
  if jax.process_count() == 1:
    return
  store, place = client(), f'cmpe_jax/{next(_turn)}/{name}'
  store.key_value_set(f'{place}/{jax.process_index()}', 'here')
  try:
    store.wait_at_barrier(place, round(1000 * seconds))
  except RuntimeError as error:
    here = {int(key.rsplit('/', 1)[1]) for key, _ in store.key_value_dir_get(place)}
    missing = sorted(set(range(jax.process_count())) - here)
    raise Interrupted(
      f'process {", ".join(map(str, missing)) or "unknown"} did not come to the barrier {name!r} within {seconds:g} s.'
    ) from error


class Gathering:
  """A barrier that a process can leave again: it asks from time to time whether all are there."""

  def __init__(self, name: str):
    self._place, self._is_here = f'cmpe_jax/{next(_turn)}/{name}', False

  def is_complete(self, seconds: float) -> bool:
    """Whether all processes have asked this; waits so long if they have not."""
    if jax.process_count() == 1:
      return True
    if not self._is_here:
      client().key_value_set(f'{self._place}/{jax.process_index()}', 'here')
      self._is_here = True
    if len(client().key_value_dir_get(self._place)) == jax.process_count():
      return True
    time.sleep(seconds)
    return False


def share(name: str, value: Any) -> list[Any]:
  """The value (anything that JSON holds) that each process gives, in the order of the processes."""
  if jax.process_count() == 1:
    return [value]
  store, place = client(), f'cmpe_jax/{next(_turn)}/{name}'
  store.key_value_set(f'{place}/{jax.process_index()}', json.dumps(value))
  barrier(name)
  return [json.loads(store.blocking_key_value_get(f'{place}/{i}', 10_000)) for i in range(jax.process_count())]


def together(name: str, action: Callable[[], T]) -> T:
  """`action()` in every process. A `UserError` in one of them is raised in all, with the number of the process."""
  if jax.process_count() == 1:
    return action()
  result, failed = None, ''
  try:
    result = action()
  except UserError as error:
    failed = str(error)
  for process, message in enumerate(share(name, failed)):
    if message:
      raise UserError(f'process {process}: {message}')
  return result  # type: ignore[return-value]


def check_same(facts: dict[str, Any]) -> None:
  """Raises `UserError`, naming the fact and the processes, unless all processes give the same facts."""
  said = share('same facts', facts)
  for name, first in said[0].items():
    for process, others in enumerate(said):
      if others[name] != first:
        raise UserError(
          f'process {process} has another {name} than process 0 ({others[name]} against {first}): start all '
          'processes with the same command, the same data and one workdir that all of them see.'
        )


def workdir_mark(workdir: str, name: str = '.started') -> str:
  """A random mark that process 0 writes into the workdir, as this process reads it: equal if all see one place."""
  path = places.place(workdir) / name
  if jax.process_index() == 0:
    path.write_text(secrets.token_hex(8))
  barrier('workdir')
  return path.read_text() if path.exists() else 'not there'


def first_says(value: bool) -> bool:
  """The first process's answer, in all of them."""
  return bool(share('first says', value)[0])
