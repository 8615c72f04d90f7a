"""Where a run begins: at the newest intact checkpoint of its workdir, or at its first step."""

from cmpe_jax import config as configuration
from cmpe_jax.data import classes, datasets, marks
from cmpe_jax.runtime import mesh as meshes
from cmpe_jax.runtime import processes
from cmpe_jax.training import warm_start
from cmpe_jax.training.checkpoint import Checkpoints
from cmpe_jax.training.console import Console
from cmpe_jax.training.run import Run
from cmpe_jax.training.saved import Damaged
from cmpe_jax.training.state import TrainState


def first_state(run: Run, checkpoints: Checkpoints, console: Console) -> tuple[TrainState, int]:
  """The state of the newest intact checkpoint, or the initial one where there is none; and its step.

  Damaged ones that are newer are put aside, so that nothing takes them for progress of this run. If no checkpoint is
  intact, nothing is moved: the cause may be another one than damage.

  Raises:
    UserError: the checkpoint is of another configuration or model, or of other classes; test images have become
      training images, or the other way round.
    Damaged: there are checkpoints, and none is intact.
  """
  found = checkpoints.steps()
  if not found:
    return _initial(run, console, go_on=False), 0
  damaged: dict[int, str] = {}
  like: TrainState | None = None
  for step in reversed(found):
    why, state = '', None
    try:
      notes = checkpoints.notes(step)
      saved = checkpoints.config(step)
      if datasets.are_folders(run.config, saved):
        classes.check(notes.get('classes', ()), run.dataset.class_names, run.config.dataset)
      configuration.check_resumed(run.config, saved, step)
      changed = marks.changes(notes.get('files', {}), run.marks, run.config.dataset, trains=True)
      like = like or _initial(run, console, go_on=True)
      state = checkpoints.restore(step, like)
    except Damaged as error:
      why = error.why
    told = [said for said in processes.share('damaged checkpoint', why) if said]
    if state is not None and not told:
      break
    damaged[step] = told[0]
  if damaged:
    checkpoints.set_aside(damaged)
  for sentence in checkpoints.put_aside:
    console.say(sentence)
  assert state is not None  # else `set_aside` has raised
  if changed:
    console.say(changed)
  console.say(f'going on from the checkpoint at step {step}')
  return state, step


def _initial(run: Run, console: Console, go_on: bool) -> TrainState:
  """The state before the first step, or one like it (`go_on`: its values will be read from a checkpoint)."""
  variables = run.variables()
  console.begins(run, variables)
  if run.init_from and not go_on:
    variables, report = processes.together('init_from', lambda: warm_start.load(run.config, variables))
    console.say(report)
  return meshes.replicate(run.state(variables), run.mesh)
