"""Checkpoints: `WORKDIR/checkpoints/STEP/`, with state, configuration and checksums. Nothing else imports Orbax.

Arrays are stored whole, by the names of their parameters, whatever devices they came from. A checkpoint appears under
its final name only when it is complete, so a process that dies while writing leaves the earlier ones as they were. What
is read is held against the checksums of what was saved.
"""

import contextlib
import logging
import operator
import sys
from collections.abc import Iterator
from typing import Any

import flax
import jax
import ml_collections
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as keep

from cmpe_jax import config as configuration
from cmpe_jax import names
from cmpe_jax.errors import Interrupted, UserError, check_choice
from cmpe_jax.models import paths
from cmpe_jax.runtime import loops, places, printing, processes
from cmpe_jax.training import checksums, layout, saved
from cmpe_jax.training.saved import Damaged
from cmpe_jax.training.state import TrainState

Notes = dict[str, Any]
SCORE = 'accuracy'  # the metric that chooses the best checkpoint


class Checkpoints:
  """The checkpoints of a workdir."""

  def __init__(self, workdir: str, keep_newest: int = 0, scored: bool = False):
    """Opens them: for reading only, or, with `keep_newest` > 0, for writing too; `scored` keeps the best one besides.

    Raises:
      UserError: the workdir cannot be written, or does not exist where it is only read.
      Damaged: no checkpoint can be listed; where they are only read: one cannot.
    """
    self.directory = places.place(workdir) / 'checkpoints'
    self._keep_newest = max(keep_newest, 1)
    self.put_aside: list[str] = []  # damaged checkpoints, in sentences
    self._records: dict[int, checksums.Record | None] = {}
    if keep_newest:
      processes.together('workdir', self._prepare)
    elif not self.directory.exists():
      raise UserError(f'workdir={workdir!r} has no checkpoints: give the --workdir of a training run.')
    else:
      self._scores()
    score = operator.itemgetter(SCORE)
    newest = keep.LatestN(self._keep_newest)
    best = keep.BestN(n=1, get_metric_fn=score, keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
      create=False,
      cleanup_tmp_directories=bool(keep_newest),
      todelete_subdir=saved.REMOVED,
      best_fn=score if scored else None,
      preservation_policy=keep.AnyPreservationPolicy([newest, best]),
    )
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    args = ocp.args
    for item, handler, kinds in (
      ('state', ocp.PyTreeCheckpointHandler(), (args.PyTreeSave, args.PyTreeRestore)),
      ('config', ocp.JsonCheckpointHandler(), (args.JsonSave, args.JsonRestore)),
      ('checksums', ocp.JsonCheckpointHandler(), (args.JsonSave, args.JsonRestore)),
    ):
      for kind in kinds:
        registry.add(item, kind, handler)
    logging.getLogger('asyncio').setLevel(logging.CRITICAL)  # of several writes that fail one is raised: that will do
    self._manager = ocp.CheckpointManager(self.directory, options=options, handler_registry=registry)

  def steps(self) -> list[int]:
    """The steps of finished checkpoints, in order; whether they are intact shows when they are read."""
    return saved.steps(self.directory)

  def choose(self, which: str) -> int:
    """The step of the 'newest' checkpoint, or of the 'best': the highest validation accuracy, and where no
    checkpoint has one (config.validation = 0) the newest.

    Raises:
      UserError: there is none.
      Damaged: the score of one cannot be read.
    """
    check_choice('checkpoint', which, names.CHECKPOINTS)
    steps = self.steps()
    if not steps:
      raise UserError(f'{self.directory} holds no complete checkpoint: train first, or give another --workdir.')
    if which == 'best':
      scored = [(score, step) for step, score in self._scores().items() if score is not None]
      return max(scored)[1] if scored else steps[-1]
    return steps[-1]

  def save(
    self, state: TrainState, config: ml_collections.ConfigDict, score: float | None = None, notes: Notes | None = None
  ) -> None:
    """Writes the state in the background, once it is copied from the devices; then deletes what need not be kept.

    `score`: validation accuracy; `notes`: what the run wants to know again, as JSON holds it. A step that has a
    checkpoint already is left alone.
    """
    step = int(state.step)
    if step in self.steps():
      return
    tree, plain = flax.serialization.to_state_dict(state), configuration.plain(config)
    first = jax.process_index() == 0  # only its record is written
    record = checksums.of_state(tree, plain, score, notes or {}) if first else {}
    self.wait()
    items = {'state': ocp.args.PyTreeSave(tree), 'config': ocp.args.JsonSave(plain)}
    items['checksums'] = ocp.args.JsonSave(record)
    metrics = None if score is None else {SCORE: score}
    self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics)

  def config(self, step: int) -> ml_collections.ConfigDict:
    """The (resolved) configuration that a checkpoint was trained with; keys that are newer have their defaults.

    Raises:
      Damaged: it is not what was written.
    """
    return configuration.from_plain(saved.config(self.directory / str(step)))

  def notes(self, step: int) -> Notes:
    """The notes that `save` was given; {} where an older version wrote none. Raises `Damaged`."""
    kept = saved.record(self.directory / str(step)) or {}
    return kept.get('notes', {})

  def add_score(self, step: int, score: float) -> None:
    """Writes the score of a checkpoint that has none, because a signal came before its evaluation had ended.

    Every process must call it; the first one's score counts. Then what need not be kept any more is deleted.
    """
    path = self.directory / str(step)
    if processes.first_says(jax.process_index() == 0 and saved.score(path, SCORE) is None):
      if jax.process_index() == 0:
        saved.add_score(path, SCORE, score)
      processes.barrier('score')
      self._records.pop(step, None)
      self._manager.reload()
      kept = {*self.steps()[-self._keep_newest :], self.choose('best')}
      for other in set(self.steps()) - kept:
        self._manager.delete(other)

  def restore(self, step: int, like: TrainState) -> TrainState:
    """The state of a checkpoint, with the tree, shapes, types and placement of `like`.

    Raises:
      UserError: the checkpoint is of another model; the message lists what differs.
      Damaged: its values are not those that were saved.
    """
    target = flax.serialization.to_state_dict(like)
    layout.check(layout.of(self._tree(step)), layout.of(target), self.directory / str(step))
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), target)
    restored = self._arrays(step, abstract)
    return flax.serialization.from_state_dict(like, restored)

  def variables(self, step: int, averaged: bool) -> dict[str, Any]:
    """{'params', 'batch_stats'} of a checkpoint on this process's first device, or their moving averages."""
    tree = self._tree(step)
    wanted = {'ema': tree['ema']} if averaged else {name: tree[name] for name in ('params', 'batch_stats')}
    restored = self._local(step, wanted)
    return restored['ema'] if averaged else restored

  def arrays(self, step: int) -> dict[str, jax.Array]:
    """Everything in a checkpoint by name: {'params/head/kernel': ..., 'opt_state/...': ..., 'step': ...}."""
    return paths.named(self._local(step, self._tree(step)))

  def set_aside(self, damaged: dict[int, str]) -> None:
    """Moves damaged checkpoints ({step: why}) to `damaged/`, all processes at once; `put_aside` says where they lie.

    Raises:
      Damaged: there is no other one.
    """
    if jax.process_index() == 0:
      self.put_aside += saved.put_aside(self.directory, self.steps(), damaged)
    processes.barrier('damaged checkpoints')
    self._manager.reload()

  def _prepare(self) -> None:
    if jax.process_index() == 0:
      saved.make(self.directory)
      self.put_aside += saved.prepare(self.directory, SCORE)

  def _scores(self) -> dict[int, float | None]:
    return {step: saved.score(self.directory / str(step), SCORE) for step in self.steps()}

  def _record(self, step: int) -> checksums.Record | None:
    """The checksums of a checkpoint; says so where it has none."""
    if step not in self._records:
      path = self.directory / str(step)
      self._records[step] = saved.record(path)
      if self._records[step] is None:
        printing.say(f'{path} was written without checksums: its values are not verified', sys.stderr)
    return self._records[step]

  def _tree(self, step: int) -> Any:
    """What Orbax says of the arrays in a checkpoint: shapes and types, which have to be those that were saved."""
    record = self._record(step)
    with self._reading(step):
      tree = self._manager.item_metadata(step)['state'].tree
      if record and layout.of(tree) != checksums.shapes(record):
        raise ValueError('state/_METADATA has changed')
    return tree

  def _local(self, step: int, wanted: Any) -> Any:
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return self._arrays(step, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), wanted))

  def _arrays(self, step: int, abstract: Any) -> Any:
    """The named part of a checkpoint's tree, with the placement that `abstract` gives."""
    arguments = ocp.args.PyTreeRestore(
      abstract, restore_args=ocp.checkpoint_utils.construct_restore_args(abstract), partial_restore=True
    )
    record = self._record(step)
    with self._reading(step):
      restored = self._manager.restore(step, args=ocp.args.Composite(state=arguments))['state']
      changed = checksums.differing(restored, record) if record else []
      if changed:
        raise ValueError(f'{len(changed)} arrays are not what was saved, such as {changed[0]}')
    return restored

  @contextlib.contextmanager
  def _reading(self, step: int) -> Iterator[None]:
    """Takes whatever goes wrong inside for damage, but for what other causes have: the storage, memory, rights."""
    try:
      with loops.patient():
        yield
      return
    except (UserError, Interrupted, MemoryError, PermissionError):
      raise
    except Exception as error:
      if 'RESOURCE_EXHAUSTED' in str(error) or (places.is_bucket(self.directory) and places.explain(error)):
        raise
      cause = error.__cause__ or error
      why = (str(cause) or type(cause).__name__).splitlines()[0][:200]
    loops.forget()
    raise Damaged(self.directory / str(step), why)

  def wait(self) -> None:
    """Returns when what was saved is on disk, and what need not be kept is not."""
    self._manager.wait_until_finished()
    if jax.process_index() == 0:
      saved.delete_removed(self.directory)

  def close(self) -> None:
    """Waits, and ends the background threads."""
    self._manager.close()
