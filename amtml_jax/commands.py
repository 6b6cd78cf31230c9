"""What `amtml teach`, `distill`, `evaluate` and `run` do, from Python too.

workdir/
  config.json      what the student's run was started with
  teachers/NAME/   one run a teacher: config.json, checkpoints, metrics
  ensemble/        the teachers that are done
  checkpoints/     the student's
  metrics.jsonl    one line an evaluation
  events/          the same for TensorBoard
  summary.json     the result
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from amtml_jax import config, ensemble, files, network, plugins, report
from amtml_jax.data import splits
from amtml_jax.ensemble import Ensemble, Teacher
from amtml_jax.errors import DamagedError, UserError
from amtml_jax.evaluate import STUDENT
from amtml_jax.plan import Plan, check_batch
from amtml_jax.progress import View
from amtml_jax.train import Training

CONFIG = "config.json"
# What may differ when a workdir is used again: none of it changes what a
# training ends with. Data and teachers are known by their fingerprints.
FREE = (
  "checkpoint_every",
  "data.folder",
  "devices",
  "ensemble",
  "evaluate_every",
  "keep",
  "parallel",
  "steps_per_dispatch",
)


def load(data: config.Data) -> splits.Splits:
  """The splits of a run's data.

  The test split is read too, so that a damaged one is known before anything
  is trained; nothing is computed from it here.
  """
  source = plugins.find("data", data.source)
  made = splits.make(
    functools.partial(
      source, folder=data.folder, name=data.name, image_size=data.image_size
    ),
    validation=data.validation,
    seed=data.split_seed,
    labels_per_class=data.labels_per_class,
    train_size=data.train_size,
  )
  _ = made.test
  return made


def identity(run: config.Run, data: splits.Splits) -> dict[str, Any]:
  """What makes a run this run: every value of it, and its data."""
  return {
    **files.plain(config.as_dict(run)),
    "data_fingerprint": data.fingerprint,
  }


def differences(before: Any, now: Any, key: str = "") -> list[tuple]:
  """(key, before, now) for every leaf that matters and is not the same."""
  if isinstance(before, dict) and isinstance(now, dict):
    found = []
    for name in {**before, **now}:
      inner = f"{key}.{name}" if key else name
      found += differences(before.get(name), now.get(name), inner)
    return found
  return [] if before == now or key in FREE else [(key, before, now)]


def check_config(now: dict[str, Any], workdir: pathlib.Path) -> None:
  """Refuses a workdir of another run; more epochs extend one."""
  path = files.writable(workdir) / CONFIG
  if not path.exists():
    return
  before = files.read_json(path, "the run's config")
  for key, was, is_ in differences(before, now):
    longer = key == "epochs" and is_ > was
    if longer and now["adapter"]["schedule"] == "joint":
      continue
    raise UserError(
      f"--workdir={workdir} holds a run with {key}={was!r}, not {is_!r}; "
      "use another --workdir, or the config it was started with"
      + (" (two_stage cannot be extended)" if longer else "")
    )


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
  now = identity(run, data)
  check_config(now, workdir)
  training = Training(plan, workdir, view)
  files.write_json(workdir / CONFIG, now)
  name = network.split_name(run.student)[0]
  with view.phase(name, plan.steps, training.at.step) as line:
    training.run(line)
  return training


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
  student = load(run.data)
  data = student if not run.data.labels_per_class else load(_first(alone).data)
  folder = files.writable(workdir) / "ensemble"
  there = _there(folder, view)
  wrong = {
    name: there[name].config
    for name, own in alone.items()
    if name in there and differences(there[name].config, identity(own, data))
  }
  if wrong and (workdir / CONFIG).exists():
    name = next(iter(wrong))
    key, was, is_ = differences(wrong[name], identity(alone[name], data))[0]
    raise UserError(
      f"--workdir={workdir} holds a student of teacher {name} with "
      f"{key}={was!r}, not {is_!r}; use another --workdir"
    )
  missing = [n for n in alone if n not in there or n in wrong]
  if missing:
    rehearse(run, student, tuple(alone.values()), data)
  for name in missing:
    training = train(alone[name], data, None, workdir / "teachers" / name, view)
    entry, variables = _graduate(training, data)
    view.say(f"{name}  validation {entry.validation_accuracy:.2%}")
    kept = [t for t in there.values() if t.name != name]
    variables = (*ensemble.restore_entries(folder, kept), variables)
    pairs = zip((*kept, entry), variables, strict=True)
    # In the config's order; teachers that it does not name come last.
    place = {n: i for i, n in enumerate(alone)}
    pairs = sorted(pairs, key=lambda p: place.get(p[0].name, len(place)))
    saved = ensemble.save(folder, *map(tuple, zip(*pairs, strict=True)))
    there = {t.name: t for t in saved.teachers}
  return ensemble.restore(folder, run.teachers)


def _first(runs: dict[str, config.Run]) -> config.Run:
  return next(iter(runs.values()))


def _there(folder: pathlib.Path, view: View) -> dict[str, Teacher]:
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
    parameters=ensemble.count_parameters(variables),
    fingerprint="",
    config=identity(plan.run, data),
  )
  return entry, variables


def teachers_of(run: config.Run, workdir: pathlib.Path) -> Ensemble | None:
  """The ensemble that a run listens to; None where no term needs one."""
  if not run.needs_teachers:
    return None
  folder = pathlib.Path(run.ensemble) if run.ensemble else workdir / "ensemble"
  return ensemble.restore(folder, run.teachers)


def distill(
  settings: ConfigDict, workdir: pathlib.Path, view: View
) -> dict[str, Any]:
  """Trains the student under an ensemble that is there; writes summary.json.

  Returns:
    The summary; that of before where the run is done already.
  """
  run = config.resolve(settings)
  teachers, data = teachers_of(run, workdir), load(run.data)
  before = _finished(run, data, teachers, workdir)
  if before:
    view.say(f"{workdir} is done already; more config.epochs extend it")
    return before
  if teachers and len(teachers.teachers) == 1 and run.adapter.name == "latent":
    view.say(
      "warning: with a single teacher its weight is 1, whatever the adapter "
      "learns"
    )
  training = train(run, data, teachers, workdir, view)
  return report.summarize(training, workdir, settings)


def evaluate(
  settings: ConfigDict, workdir: pathlib.Path, view: View
) -> dict[str, Any]:
  """Evaluates a finished run on the test split again."""
  run = config.resolve(settings)
  if not (workdir / CONFIG).exists():
    raise UserError(
      f"there is no run in --workdir={workdir}; train one with `amtml run`"
    )
  teachers, data = teachers_of(run, workdir), load(run.data)
  plan = Plan(run, data, teachers)
  check_config(identity(run, data), workdir)
  training = Training(plan, workdir, view)
  if not training.finished:
    raise UserError(
      f"the run in --workdir={workdir} stands at step {training.at.step} of "
      f"{plan.steps}; finish it with `amtml distill`"
    )
  return report.summarize(training, workdir, settings)


def run(
  settings: ConfigDict, workdir: pathlib.Path, view: View
) -> dict[str, Any]:
  """Teaches what is missing, distils, evaluates, reports."""
  if config.resolve(settings).needs_teachers:
    teach(settings, workdir, view)
  return distill(settings, workdir, view)


def _finished(
  run: config.Run,
  data: splits.Splits,
  teachers: Ensemble | None,
  workdir: pathlib.Path,
) -> dict[str, Any] | None:
  """The summary of this very run, under these very teachers."""
  path = workdir / report.SUMMARY
  if not path.exists() or not (workdir / CONFIG).exists():
    return None
  summary = files.read_json(path, "the summary")
  saved = [[n, t["fingerprint"]] for n, t in summary["teachers"].items()]
  same = saved == (teachers.fingerprints if teachers else [])
  before = files.read_json(workdir / CONFIG, "the run's config")
  done = summary["run"]["epochs"] == run.epochs
  if same and done and not differences(before, identity(run, data)):
    return summary
  return None
