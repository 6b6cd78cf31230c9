"""What `amtml teach`, `distill`, `evaluate` and `run` do, from Python too."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict

from amtml_jax import (
  config,
  determinism,
  ensemble,
  files,
  hear,
  lock,
  network,
  processes,
  report,
  workdirs,
)
from amtml_jax.data import splits, streamed
from amtml_jax.ensemble import Ensemble, Teacher
from amtml_jax.errors import DamagedError, UserError
from amtml_jax.evaluate import SEEDS, STUDENT
from amtml_jax.plan import Plan, check_batch
from amtml_jax.progress import View
from amtml_jax.train import Training

# Times the accuracy of a guess; a teacher below it has hardly learnt.
_BETTER = 1.5
# Of a teacher's weight over all test images; an adapter above it has hardly a
# choice left to make, most often since its first steps were too long.
_ALL = 0.97


def _alone(command: Callable[..., Any]) -> Callable[..., Any]:
  """A command that has its workdir for itself."""

  @functools.wraps(command)
  def holding(settings: ConfigDict, workdir: pathlib.Path, view: View) -> Any:
    with lock.held(workdir):
      return command(settings, workdir, view)

  return holding


def load(
  data: config.Data, say: Callable[[str], None] | None = None
) -> splits.Splits:
  """The splits of a run's data.

  The test split is read too, so that a damaged one is known before anything
  is trained; nothing is computed from it here.

  Args:
    data: where it is, and how it is split.
    say: is told how far the first pass over a large set is.
  """
  made = splits.make(
    functools.partial(
      streamed.opened,
      data.source,
      folder=data.folder,
      name=data.name,
      image_size=data.image_size,
      resident_mb=data.resident_mb,
      **({"say": say} if say else {}),
    ),
    validation=data.validation,
    seed=data.split_seed,
    labels_per_class=data.labels_per_class,
    train_size=data.train_size,
  )
  _ = made.test
  return made


def train(
  run: config.Run,
  data: splits.Splits,
  teachers: Ensemble | None,
  workdir: pathlib.Path,
  view: View,
) -> Training:
  """Trains one network to its end, going on from where the workdir stands."""
  plan = Plan(run, data, teachers)
  plan.check()
  now = workdirs.identity(run, data)
  known = teachers.fingerprints if teachers else []
  processes.agree("config or data", files.digest([now, known]))
  workdirs.check_config(now, workdir)
  if teachers and run.data.views:
    plan.taught = hear.hear(plan, _kept_in(run, workdir), view)
  training = Training(plan, workdir, view)
  files.write_json(workdir / workdirs.CONFIG, now)
  name = network.split_name(run.student)[0]
  unsure = determinism.warning() if run.deterministic else ""
  if unsure:
    view.say(unsure)
  of = f", of seeds {run.seed} to {run.students[-1]}" if run.seeds > 1 else ""
  view.say(f"{name}  {plan.replicas.describe(run.batch_size)}{of}")
  if training.at.step:
    view.say(f"{name}  goes on from step {training.at.step} of {plan.steps}")
  with view.phase(name, plan.steps, training.at.step) as line:
    training.run(line)
  return training


@_alone
def teach(settings: ConfigDict, workdir: pathlib.Path, view: View) -> Ensemble:
  """Trains the teachers that are not there yet, one after the other.

  A teacher joins the ensemble as soon as it is done; one whose files are
  damaged is made again.
  """
  run = config.resolve(settings)
  if run.ensemble:
    return ensemble.restore(pathlib.Path(run.ensemble), run.teachers)
  alone = {
    network.split_name(spec)[0]: config.teacher(settings, spec)
    for spec in run.teachers
  }
  student = load(run.data, view.say)
  # However few labels the student sees, the teachers see all.
  whole = dataclasses.replace(run.data, labels_per_class=0)
  data = student if whole == run.data else load(whole, view.say)
  folder = files.writable(workdir) / "ensemble"
  there = _whole_teachers(folder, view)
  wrong = {}
  for name in set(there) & set(alone):
    now = workdirs.identity(alone[name], data)
    found = workdirs.differences(there[name].config, now)
    if found:
      wrong[name] = found[0]
  if wrong and (workdir / workdirs.CONFIG).exists():
    name, (key, was, is_) = min(wrong.items())
    raise UserError(
      f"--workdir={workdir} holds a student, and its teacher {name} with "
      f"{key}={was!r}, not {is_!r}; use another --workdir"
    )
  missing = [n for n in alone if n not in there or n in wrong]
  for name in alone:
    if name not in missing:
      view.say(f"{name}  is there already")
  if missing:
    rehearse(run, student, tuple(alone.values()), data)
  for name in missing:
    training = train(alone[name], data, None, workdir / "teachers" / name, view)
    entry, variables = _graduate(training, data)
    view.say(f"{name}  validation {entry.validation_accuracy:.2%}")
    if entry.validation_accuracy * len(entry.classes) < _BETTER:
      view.say(
        f"warning: {name} is hardly better than chance on held-out images; a "
        "smaller learning_rate or a clip_norm may help, in "
        "config.teacher.optimizer, in another --workdir"
      )
    kept = [t for t in there.values() if t.name != name]
    variables = (*ensemble.restore_entries(folder, kept), variables)
    pairs = zip((*kept, entry), variables, strict=True)
    # In the config's order; teachers that it does not name come last.
    place = {n: i for i, n in enumerate(alone)}
    pairs = sorted(pairs, key=lambda p: place.get(p[0].name, len(place)))
    saved = ensemble.save(folder, *map(tuple, zip(*pairs, strict=True)))
    there = {t.name: t for t in saved.teachers}
  return ensemble.restore(folder, run.teachers)


def _whole_teachers(folder: pathlib.Path, view: View) -> dict[str, Teacher]:
  """The teachers of a workdir's own ensemble that are whole."""
  if not (folder / ensemble.MANIFEST).exists():
    return {}
  whole = {}
  for teacher in ensemble.manifest(folder):
    try:
      ensemble.restore_entries(folder, (teacher,))
    except DamagedError as error:
      view.say(f"{error}: made again from its run")
      continue
    whole[teacher.name] = teacher
  return whole


def rehearse(
  run: config.Run,
  student: splits.Splits,
  teachers: Sequence[config.Run],
  data: splits.Splits,
) -> None:
  """Refuses what cannot be distilled, before any teacher is trained.

  Builds everything in shapes alone: a mapping that names a stage which is not
  there, an adapter that nothing trains, or a batch that does not divide, shows.
  """
  for teacher in teachers:
    check_batch(teacher, data, "teacher.batch_size")
  if run.data.views and run.data.outputs:
    files.writable(pathlib.Path(run.data.outputs), "--config.data.outputs")
  future = None
  if run.needs_teachers:
    future = ensemble.untrained(teachers, data.train, data.mean, data.std)
  Plan(run, student, future).check()


def _graduate(training: Training, data: splits.Splits) -> tuple[Teacher, Any]:
  """The manifest's entry of a trained network, and its variables."""
  plan, variables = training.plan, training.state.student
  student = plan.stages[0].objective.student
  test = plan.evaluate(training.state, plan.evaluator.place(data.test))
  entry = Teacher(
    name=student.name,
    variant=student.variant,
    classes=data.train.classes,
    image_shape=plan.image_shape,
    mean=data.mean,
    std=data.std,
    validation_accuracy=training.at.validation[STUDENT]["accuracy"],
    test_accuracy=test[STUDENT]["accuracy"],
    parameters=network.count_parameters(variables),
    fingerprint="",
    config=workdirs.identity(plan.run, data),
  )
  return entry, variables


def teachers_of(run: config.Run, workdir: pathlib.Path) -> Ensemble | None:
  """The ensemble that a run listens to; None where no term needs one."""
  if not run.needs_teachers:
    return None
  folder = pathlib.Path(run.ensemble) if run.ensemble else workdir / "ensemble"
  return ensemble.restore(folder, run.teachers)


def _kept_in(run: config.Run, workdir: pathlib.Path) -> pathlib.Path:
  """Where the teachers' outputs are kept: beside them, if that may be."""
  if run.data.outputs:
    return pathlib.Path(run.data.outputs)
  beside = pathlib.Path(run.ensemble) if run.ensemble else workdir / "ensemble"
  may = processes.told(os.access(beside, os.W_OK))
  return (beside if may else workdir) / "outputs"


@_alone
def distill(
  settings: ConfigDict, workdir: pathlib.Path, view: View
) -> dict[str, Any]:
  """Trains the student under an ensemble that is there; writes summary.json.

  Returns:
    The summary; that of before where the run is done already.
  """
  run = config.resolve(settings)
  teachers, data = teachers_of(run, workdir), load(run.data, view.say)
  before = workdirs.finished(run, data, teachers, workdir)
  if before:
    view.say(f"{workdir} is done already; more config.epochs extend it")
    return before
  if teachers and len(teachers.teachers) == 1 and run.adapter.name == "latent":
    view.say(
      "warning: with a single teacher its weight is 1, whatever the adapter "
      "learns"
    )
  training = train(run, data, teachers, workdir, view)
  summary = report.summarize(training, workdir, settings)
  if training.state.params["adapter"] and len(teachers.teachers) > 1:
    for one in summary.get(SEEDS, [{"seed": run.seed, **summary}]):
      # None where the adapter needs labels.
      for name, weight in one.get("weights", {}).items():
        if weight > _ALL:
          view.say(
            f"warning: the adapter of seed {one['seed']} gives {name} "
            f"{weight:.1%} of all weight; a smaller "
            "config.adapter.learning_rate may let it choose, in another "
            "--workdir"
          )
  return summary


@_alone
def restored(
  settings: ConfigDict, workdir: pathlib.Path, view: View
) -> Training:
  """A finished run, as its last checkpoint has it.

  Raises:
    UserError: there is none in the workdir, or it is not finished.
  """
  run = config.resolve(settings)
  if not (workdir / workdirs.CONFIG).exists():
    raise UserError(
      f"there is no run in --workdir={workdir}; train one with `amtml run`"
    )
  teachers, data = teachers_of(run, workdir), load(run.data, view.say)
  plan = Plan(run, data, teachers)
  workdirs.check_config(workdirs.identity(run, data), workdir)
  training = Training(plan, workdir, view)
  if not training.finished:
    raise UserError(
      f"the run in --workdir={workdir} stands at step {training.at.step} of "
      f"{plan.steps}; finish it with `amtml distill`"
    )
  return training


@_alone
def evaluate(
  settings: ConfigDict, workdir: pathlib.Path, view: View
) -> dict[str, Any]:
  """Evaluates a finished run on the test split again."""
  training = restored(settings, workdir, view)
  return report.summarize(training, workdir, settings)


@_alone
def run(
  settings: ConfigDict, workdir: pathlib.Path, view: View
) -> dict[str, Any]:
  """Teaches what is missing, distils, evaluates, reports."""
  asked = config.resolve(settings)
  if (workdir / workdirs.CONFIG).exists():
    # Before hours of teaching for a student that would be refused.
    now = workdirs.identity(asked, load(asked.data, view.say))
    workdirs.check_config(now, workdir)
  if asked.needs_teachers:
    teach(settings, workdir, view)
  return distill(settings, workdir, view)
