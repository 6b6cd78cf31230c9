"""Whether a sweep may go on in a workdir: what is there has its settings."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from amtml_jax import checks, config, files, metrics, results
from amtml_jax.experiment import Cell, Experiment
from amtml_jax.workdirs import FREE


def others(
  workdir: pathlib.Path,
  base: ConfigDict,
  cells: Sequence[Cell],
  experiment: Experiment,
) -> list[list[Any]]:
  """The cells that are there besides: of other seeds, or of another file.

  Raises:
    UserError: what is there of these runs, of any seed, is of another config,
      or was made otherwise.
  """
  place = workdir / "results"
  if not (place / results.SWEEP).exists():
    return []
  before = results.read(place)
  where, own = f"--workdir={workdir} holds", kind(experiment)
  change = changed(before.header["base"], base.to_dict())
  checks.check(
    change is None, f"{where} a sweep with {change}; use another --workdir"
  )
  runs = {cell.run: cell.settings for cell in cells}
  now = {  # a preset may mean other values than it did
    run: {"config": settings.to_dict(), "resolved": resolved(settings)}
    for run, settings in runs.items()
  }
  for (run, seed), result in before.cells.items():
    if result is None or run not in now:
      continue
    by = result.get("by", own)
    checks.check(
      by == own,
      f"{where} {run}/{seed}, which was made by {_told(by)}, not by "
      f"{_told(own)}; use another --workdir",
    )
    for what, is_ in now[run].items():
      change = changed(result.get(what, {}), is_, but=("seed",))
      checks.check(
        change is None,
        f"{where} {run}/{seed} with {change}; use another --workdir",
      )
  asked = {(cell.run, cell.seed) for cell in cells}
  return [list(cell) for cell in before.cells if cell not in asked]


def kind(experiment: Experiment) -> str:
  """What makes the cells: the package's training, or a file's own `run`."""
  own = getattr(experiment.module, "run", None)
  return pathlib.Path(experiment.path).stem if own else ""


def _told(made: str) -> str:
  return f"run() of {made}" if made else "training"


def resolved(settings: ConfigDict) -> dict[str, Any]:
  """What a config asks for, with its method's values in their places."""
  run = config.as_dict(config.resolve(settings))
  labels = ", ".join(sorted(run["terms"]))
  return files.plain({**run, "of_terms": labels})


def changed(
  before: dict[str, Any], now: dict[str, Any], but: Sequence[str] = ()
) -> str | None:
  """The first value of two configs that differs and matters; None without.

  What an older version did not know yet is no difference.
  """
  was, is_ = metrics.flat(before), metrics.flat(files.plain(now))
  for key, value in is_.items():
    name = key.replace("/", ".")
    if key in was and was[key] != value and name not in (*FREE, *but):
      return f"{name}={checks.shown(was[key])}, not {checks.shown(value)}"
  return None
