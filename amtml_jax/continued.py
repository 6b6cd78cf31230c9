"""Whether a sweep may go on in a workdir: what is there has its settings."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from amtml_jax import checks, config, files, metrics, results
from amtml_jax.experiment import Cell
from amtml_jax.workdirs import FREE


def others(
  workdir: pathlib.Path, base: ConfigDict, cells: Sequence[Cell]
) -> list[list[Any]]:
  """The results of other cells that are there: other seeds, or another file's.

  Raises:
    UserError: they, or some of these cells, are of another config.
  """
  place = workdir / "results"
  if not (place / results.SWEEP).exists():
    return []
  before = results.read(place)
  there = {c: r for c, r in before.cells.items() if r is not None}
  pairs = [("a sweep", before.header["base"], base.to_dict())]
  for cell in cells:
    result = there.pop((cell.run, cell.seed), None)
    if result is not None:
      pairs.append((cell.name, result["config"], cell.settings.to_dict()))
      # A preset may mean other values than it did.
      if "resolved" in result:
        pairs.append((cell.name, result["resolved"], resolved(cell.settings)))
  for what, was, now in pairs:
    change = _changed(was, now)
    checks.check(
      change is None,
      f"--workdir={workdir} holds {what} with {change}; use another --workdir",
    )
  return [list(cell) for cell in there]


def resolved(settings: ConfigDict) -> dict[str, Any]:
  """What a config asks for, with its method's values in their places."""
  run = config.as_dict(config.resolve(settings))
  labels = ", ".join(sorted(run["terms"]))
  return files.plain({**run, "of_terms": labels})


def _changed(before: dict[str, Any], now: dict[str, Any]) -> str | None:
  """The first value of two configs that differs and matters; None without.

  What an older version did not know yet is no difference.
  """
  was, is_ = metrics.flat(before), metrics.flat(files.plain(now))
  for key, value in is_.items():
    name = key.replace("/", ".")
    if key in was and was[key] != value and name not in FREE:
      return f"{name}={checks.shown(was[key])}, not {checks.shown(value)}"
  return None
