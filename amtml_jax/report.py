"""The result of a run: summary.json for scripts, a table for people."""

from __future__ import annotations

import importlib.metadata
import pathlib
import time
from typing import Any

from ml_collections import ConfigDict
from rich.table import Table

from amtml_jax import __version__, config, files, metrics
from amtml_jax.errors import DamagedError
from amtml_jax.evaluate import ADAPTIVE, SEEDS, STUDENT, UNIFORM
from amtml_jax.train import Training
from amtml_jax.workdirs import SUMMARY

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")


def summarize(
  training: Training, workdir: pathlib.Path, settings: ConfigDict
) -> dict[str, Any]:
  """Evaluates the last and the best student on the test split, once.

  Writes and returns the summary; `report` is the last student's.
  """
  start = time.monotonic()
  plan = training.plan
  test = plan.evaluator.place(plan.splits.test)
  results = plan.evaluate(training.state, test)
  best, every_best = _best(training, test)
  own = plan.parameters
  teachers = plan.ensemble.teachers if plan.ensemble else ()
  together = sum(t.parameters for t in teachers)

  def line(values: dict[str, float], parameters: int, **more: Any) -> dict:
    out = {f"test_{name}": value for name, value in values.items()}
    out |= {"parameters": parameters, **more}
    if together:
      out["compression"] = together / parameters
    return out

  name = plan.stages[0].objective.student.name

  def told(results: dict[str, Any], validation: dict[str, Any]) -> dict:
    """What depends on the student, of one or of the mean."""
    out: dict[str, Any] = {
      "student": line(
        results[STUDENT],
        own,
        name=name,
        step=training.at.step,
        validation_accuracy=validation[STUDENT]["accuracy"],
      ),
      "ensemble": {
        name: line(results[who], together)
        for name, who in (("uniform", UNIFORM), ("adaptive", ADAPTIVE))
        if who in results
      },
    }
    more = ("weights", "weights_entropy", "weight_on_right")
    more += ("some_teacher_right",)
    return out | {n: results[n] for n in more if n in results}

  validation = training.at.validation
  summary = {
    **told(results, validation),
    "best": best,
    "teachers": {
      t.name: line(
        results[f"teachers.{t.name}"],
        t.parameters,
        validation_accuracy=t.validation_accuracy,
        fingerprint=t.fingerprint,
      )
      for t in teachers
    },
  }
  if SEEDS in results:
    every = zip(
      *(plan.run.students, results[SEEDS], validation[SEEDS], every_best),
      strict=True,
    )
    summary[SEEDS] = [
      {"seed": s, **told(r, v), "best": b} for s, r, v, b in every
    ]
  summary["seconds"] = {
    "teach": _seconds_of_teachers(workdir),
    "distill": training.at.seconds,
    "evaluate": time.monotonic() - start,
  }
  summary["run"] = files.plain(config.as_dict(plan.run))
  summary["config"] = files.plain(settings.to_dict())
  summary["versions"] = {"amtml-jax": __version__} | {
    p: importlib.metadata.version(p) for p in PACKAGES
  }
  summary["devices"] = plan.replicas.describe(plan.run.batch_size)
  summary = files.plain(summary)
  summary["digest"] = files.digest(summary)
  files.write_json(workdir / SUMMARY, summary)
  return summary


def _best(
  training: Training, test: Any
) -> tuple[dict[str, Any] | None, list[dict[str, Any] | None]]:
  """The checkpoint with the best validation accuracy, beside the last one.

  Of several students the one that is best in the mean, and each of them there.
  """
  plan, step = training.plan, training.saved.best()
  try:
    meta = training.saved.meta(step)
    like = plan.like(plan.stages[meta["stage"]])
    state = plan.replicas.place(training.saved.restore(step, like))
  except DamagedError:
    # The last student is what counts.
    return None, [None] * len(plan.run.students)

  def line(result: dict[str, Any], validation: dict[str, Any]) -> dict:
    return {
      "step": step,
      "validation_accuracy": validation[STUDENT]["accuracy"],
      **{f"test_{name}": value for name, value in result[STUDENT].items()},
    }

  result, validation = plan.evaluate(state, test), meta["validation"]
  pairs = zip(result.get(SEEDS, ()), validation.get(SEEDS, ()), strict=True)
  return line(result, validation), [line(r, v) for r, v in pairs]


def _seconds_of_teachers(workdir: pathlib.Path) -> dict[str, float]:
  seconds = {}
  for folder in sorted((workdir / "teachers").glob("*")):
    lines = metrics.read(folder)
    if lines:
      seconds[folder.name] = lines[-1]["seconds"]
  return seconds


def table(summary: dict[str, Any]) -> Table:
  """Everyone's test accuracy, cross-entropy, size and compression."""
  out = Table(title=f"{summary['run']['method']}, test split")
  out.add_column("")
  for column in ("accuracy", "cross-entropy", "parameters", "compression"):
    out.add_column(column, justify="right")

  def row(name: str, line: dict[str, Any], style: str | None = None) -> None:
    compression = line.get("compression")
    out.add_row(
      name,
      f"{line['test_accuracy']:.2%}",
      f"{line['test_cross_entropy']:.4f}",
      f"{line['parameters']:,}" if "parameters" in line else "",
      f"{compression:.1f}x" if compression else "",
      style=style,
    )

  for name, line in summary["teachers"].items():
    row(f"teacher {name}", line)
  for name, line in summary["ensemble"].items():
    row(f"ensemble, {name}", line)
  out.add_section()
  student = summary["student"]
  row(f"student {student['name']}", student, "bold")
  for own in summary.get(SEEDS, ()):
    row(f"  seed {own['seed']}", own["student"])
  if summary["best"]:
    row(f"  best, step {summary['best']['step']}", summary["best"])
  return out
