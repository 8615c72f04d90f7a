"""Checkpoints: `WORKDIR/checkpoints/STEP/`, each with the state and the configuration. Nothing else imports Orbax.

Arrays are stored whole, by the names of their parameters, whatever devices they came from. A checkpoint appears under
its final name only when it is complete, so a process that dies while writing leaves the earlier ones as they were.
"""

import gc
import operator
from typing import Any

import flax
import jax
import ml_collections
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy as keep

from cmpe_jax import config as configuration
from cmpe_jax import names
from cmpe_jax.errors import UserError, check_choice
from cmpe_jax.models import paths
from cmpe_jax.runtime import processes
from cmpe_jax.training.state import TrainState

SCORE = 'accuracy'  # the metric that chooses the best checkpoint


class Checkpoints:
  """The checkpoints of a workdir."""

  def __init__(self, workdir: str, keep_newest: int = 0, scored: bool = False):
    """Opens them: for reading only, or, with `keep_newest` > 0, for writing too; `scored` keeps the best one besides.

    Raises:
      UserError: the workdir cannot be written, or does not exist where it is only read.
    """
    self.directory = epath.Path(workdir).expanduser().absolute() / 'checkpoints'
    if keep_newest:
      processes.together('workdir', lambda: _prepare(self.directory))
    elif not self.directory.exists():
      raise UserError(f'workdir={workdir!r} has no checkpoints: give the --workdir of a training run.')
    score = operator.itemgetter(SCORE)
    newest = keep.LatestN(max(keep_newest, 1))
    best = keep.BestN(n=1, get_metric_fn=score, keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
      create=False,
      cleanup_tmp_directories=bool(keep_newest),
      best_fn=score if scored else None,
      preservation_policy=keep.AnyPreservationPolicy([newest, best]),
    )
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    args = ocp.args
    for item, handler, kinds in (
      ('state', ocp.PyTreeCheckpointHandler(), (args.PyTreeSave, args.PyTreeRestore)),
      ('config', ocp.JsonCheckpointHandler(), (args.JsonSave, args.JsonRestore)),
    ):
      for kind in kinds:
        registry.add(item, kind, handler)
    self._manager = ocp.CheckpointManager(self.directory, options=options, handler_registry=registry)

  def steps(self) -> list[int]:
    """The steps of complete checkpoints, in order."""
    return sorted(step for step in self._manager.all_steps() if _complete(self.directory / str(step)))

  def choose(self, which: str) -> int:
    """The step of the 'newest' checkpoint, or of the 'best': the highest validation accuracy, and where no
    checkpoint has one (config.validation = 0) the newest.

    Raises:
      UserError: there is none.
    """
    check_choice('checkpoint', which, names.CHECKPOINTS)
    steps = self.steps()
    if not steps:
      raise UserError(f'{self.directory} holds no complete checkpoint: train first, or give another --workdir.')
    if which == 'best':
      scored = [(metrics[SCORE], step) for step in steps if (metrics := self._manager.metrics(step))]
      return max(scored)[1] if scored else steps[-1]
    return steps[-1]

  def save(self, state: TrainState, config: ml_collections.ConfigDict, score: float | None = None) -> None:
    """Writes the state in the background, once it is copied from the devices; then deletes what need not be kept.

    `score`: validation accuracy. A step that has a checkpoint already is left alone.
    """
    step = int(state.step)
    if step in self.steps():
      return
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.PyTreeSave(flax.serialization.to_state_dict(state)),
        config=ocp.args.JsonSave(configuration.plain(config)),
      ),
      metrics=None if score is None else {SCORE: score},
    )

  def config(self, step: int) -> ml_collections.ConfigDict:
    """The (resolved) configuration that a checkpoint was trained with; keys that are newer have their defaults."""
    return configuration.from_plain(self._read(step, 'config', ocp.args.JsonRestore()))

  def restore(self, step: int, like: TrainState) -> TrainState:
    """The state of a checkpoint, with the tree, shapes, types and placement of `like`.

    Raises:
      UserError: the checkpoint is of another model; the message lists what differs.
    """
    target = flax.serialization.to_state_dict(like)
    self._check(step, target)
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), target)
    restored = self._arrays(step, abstract)
    return flax.serialization.from_state_dict(like, restored)

  def variables(self, step: int, averaged: bool) -> dict[str, Any]:
    """{'params', 'batch_stats'} of a checkpoint on this process's first device, or their moving averages."""
    tree = self._manager.item_metadata(step)['state'].tree
    wanted = {'ema': tree['ema']} if averaged else {name: tree[name] for name in ('params', 'batch_stats')}
    restored = self._local(step, wanted)
    return restored['ema'] if averaged else restored

  def arrays(self, step: int) -> dict[str, jax.Array]:
    """Everything in a checkpoint by name: {'params/head/kernel': ..., 'opt_state/...': ..., 'step': ...}."""
    return paths.named(self._local(step, self._manager.item_metadata(step)['state'].tree))

  def _local(self, step: int, wanted: Any) -> Any:
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return self._arrays(step, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), wanted))

  def _arrays(self, step: int, abstract: Any) -> Any:
    """The named part of a checkpoint's tree, with the placement that `abstract` gives."""
    arguments = ocp.args.PyTreeRestore(
      abstract, restore_args=ocp.checkpoint_utils.construct_restore_args(abstract), partial_restore=True
    )
    return self._read(step, 'state', arguments)

  def _read(self, step: int, item: str, arguments: Any) -> Any:
    """An item of a checkpoint. Raises `UserError` if its files are cut short or changed."""
    try:
      return self._manager.restore(step, args=ocp.args.Composite(**{item: arguments}))[item]
    except Exception as error:
      if not (isinstance(error, ValueError) or type(error) is Exception):  # the latter for arrays
        raise
      why = str(error.__cause__ or error).splitlines()[0]
    gc.collect()  # Orbax's other reads, which would complain when the interpreter ends
    raise UserError(f'{self.directory / str(step)} is damaged ({why}): remove it to go on from the one before it.')

  def wait(self) -> None:
    """Returns when what was saved is on disk."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, and ends the background threads."""
    self._manager.close()

  def _check(self, step: int, target: Any) -> None:
    theirs, ours = _shapes(self._manager.item_metadata(step)['state'].tree), _shapes(target)
    if theirs == ours:
      return
    lines = [f'  - {name} {theirs[name]}' for name in sorted(theirs) if ours.get(name) != theirs[name]]
    lines += [f'  + {name} {ours[name]}' for name in sorted(ours) if theirs.get(name) != ours[name]]
    more = f'\n  ... {len(lines) - 20} more' if len(lines) > 20 else ''
    raise UserError(
      f'the checkpoint {self.directory / str(step)} is of another model (- the checkpoint, + this configuration):\n'
      + '\n'.join(lines[:20])
      + more
      + '\nUse its configuration, or another --workdir.'
    )


def _prepare(directory: epath.Path) -> None:
  """Makes the directory and removes what a killed process left half written. Only the first process does."""
  if jax.process_index():
    return
  try:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / '.writable').write_text('')
    (directory / '.writable').unlink()
  except OSError as error:
    raise UserError(
      f'workdir={str(directory.parent)!r} cannot be written ({error.strerror or error}): give another --workdir.'
    ) from error
  for path in directory.iterdir():
    if path.name.isdigit() and not _complete(path):
      path.rmtree()


def _complete(path: epath.Path) -> bool:
  return all((path / name).exists() for name in ('_CHECKPOINT_METADATA', 'state/_METADATA', 'config/metadata'))


def _shapes(tree: Any) -> dict[str, str]:
  """{'params/head/kernel': 'float32[64, 10]', ...}"""
  return {name: f'{x.dtype}{list(x.shape)}' for name, x in paths.named(tree).items()}
