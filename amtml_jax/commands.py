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
from typing import Any

from ml_collections import ConfigDict

from amtml_jax import config, ensemble, files, network, plugins, report
from amtml_jax.data import splits
from amtml_jax.ensemble import Ensemble, Teacher
from amtml_jax.errors import UserError
from amtml_jax.evaluate import STUDENT
from amtml_jax.plan import Plan, rehearse
from amtml_jax.progress import View
from amtml_jax.train import Training

CONFIG = "config.json"
# What may differ when a workdir is used again: none of it changes the result.
FREE = (
  "data.folder",
  "devices",
  "ensemble",
  "keep",
  "parallel",
  "steps_per_dispatch",
)


def load(data: config.Data) -> splits.Splits:
  """The splits of a run's data."""
  source = plugins.find("data", data.source)
  return splits.make(
    functools.partial(
      source, folder=data.folder, name=data.name, image_size=data.image_size
    ),
    validation=data.validation,
    seed=data.split_seed,
    labels_per_class=data.labels_per_class,
    train_size=data.train_size,
  )


def check_config(run: config.Run, workdir: pathlib.Path) -> None:
  """Refuses a workdir of another run; more epochs extend one."""
  path = files.writable(workdir) / CONFIG
  if not path.exists():
    return
  before = files.read_json(path, "the run's config")
  now = files.plain(config.as_dict(run))
  for key, was, is_ in differences(before, now):
    if key in FREE or (key == "epochs" and is_ > was):
      continue
    raise UserError(
      f"--workdir={workdir} holds a run with {key}={was!r}, not {is_!r}; "
      "use another --workdir, or the config it was started with"
    )


def differences(before: Any, now: Any, key: str = "") -> list[tuple]:
  """(key, before, now) for every leaf that is not the same."""
  if isinstance(before, dict) and isinstance(now, dict):
    found = []
    for name in {**before, **now}:
      inner = f"{key}.{name}" if key else name
      found += differences(before.get(name), now.get(name), inner)
    return found
  return [] if before == now else [(key, before, now)]


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
  check_config(run, workdir)
  training = Training(plan, workdir, view)
  files.write_json(workdir / CONFIG, files.plain(config.as_dict(run)))
  name = network.split_name(run.student)[0]
  with view.phase(name, plan.steps, training.at.step) as line:
    training.run(line)
  return training


def teach(settings: ConfigDict, workdir: pathlib.Path, view: View) -> Ensemble:
  """Trains the teachers that are not there yet, one after the other.

  A teacher joins the ensemble as soon as it is done.
  """
  run = config.resolve(settings)
  if run.ensemble:
    return ensemble.restore(pathlib.Path(run.ensemble), run.teachers)
  folder = files.writable(workdir) / "ensemble"
  data = None
  there: dict[str, Teacher] = {}
  if (folder / ensemble.MANIFEST).exists():
    there = {t.name: t for t in ensemble.manifest(folder)}
  for spec in run.teachers:
    name, _ = network.split_name(spec)
    alone = config.teacher(settings, spec)
    place = workdir / "teachers" / name
    if name in there and _same(there[name].config, alone):
      continue
    data = data or load(alone.data)
    training = train(alone, data, None, place, view)
    entry, variables = _graduate(training, data)
    view.say(
      f"{name}  validation {entry.validation_accuracy:.2%}  test "
      f"{entry.test_accuracy:.2%}"
    )
    kept = [t for t in there.values() if t.name != name]
    before = ensemble.restore_entries(folder, kept)
    order = [network.split_name(s)[0] for s in run.teachers]
    entries = sorted(
      zip([*kept, entry], [*before, variables], strict=True),
      key=lambda pair: (
        order.index(pair[0].name) if pair[0].name in order else len(order)
      ),
    )
    saved = ensemble.save(folder, *map(tuple, zip(*entries, strict=True)))
    there = {t.name: t for t in saved.teachers}
  return ensemble.restore(folder, run.teachers)


def _same(before: dict[str, Any], run: config.Run) -> bool:
  now = files.plain(config.as_dict(run))
  return all(key in FREE for key, _, _ in differences(before, now))


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
    config=files.plain(config.as_dict(plan.run)),
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
  before = _finished(run, workdir)
  if before:
    view.say(f"{workdir} is done already; more config.epochs extend it")
    return before
  teachers = teachers_of(run, workdir)
  if teachers and len(teachers.teachers) == 1 and run.adapter.name == "latent":
    view.say(
      "warning: with a single teacher its weight is 1, whatever the adapter "
      "learns"
    )
  training = train(run, load(run.data), teachers, workdir, view)
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
  teachers = teachers_of(run, workdir)
  plan = Plan(run, load(run.data), teachers)
  check_config(run, workdir)
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
  checked = config.resolve(settings)
  if checked.needs_teachers:
    if not checked.ensemble:
      rehearse(checked, load(checked.data))
    teach(settings, workdir, view)
  return distill(settings, workdir, view)


def _finished(run: config.Run, workdir: pathlib.Path) -> dict[str, Any] | None:
  path = workdir / report.SUMMARY
  if not path.exists() or not (workdir / CONFIG).exists():
    return None
  summary = files.read_json(path, "the summary")
  if not _same(summary["run"], run):
    return None
  return summary
