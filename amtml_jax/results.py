"""The results of a sweep: one file a cell, and which ones there should be.

results/
  sweep.json       the experiment, its base config, its cells
  RUN/SEED.json    a finished cell: config, seed, versions, commit, result

The folder stands for itself: it may be copied, committed, and reported again.
"""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from amtml_jax import checks, files, metrics, provenance
from amtml_jax.errors import UserError
from amtml_jax.experiment import Experiment
from amtml_jax.tables import Table

SWEEP = "sweep.json"
FORMAT = 1
_IN_A_TABLE = 4  # names below a table; the report begins with all
_HEADER = {
  "format": int,
  "experiment": str,
  "title": str,
  "base": {...: Any},
  "cells": tuple[tuple[str, int], ...],
  ...: Any,
}
_RESULT = {
  "run": str,
  "seed": int,
  "commit": str | None,
  "versions": {...: str},
  "seconds": float,
  "config": {...: Any},
  "result": {...: Any},
  "curve": tuple,
  ...: Any,
}


@dataclasses.dataclass(frozen=True)
class Results:
  """What a folder holds.

  Attributes:
    folder: with `sweep.json`.
    header: its content.
    cells: by (run, seed), in order; None where there is no result (yet).
    damaged: what is wrong with those that cannot be read.
    here: whether the code at hand says which code of several is the right one.
  """

  folder: pathlib.Path
  header: dict[str, Any]
  cells: dict[tuple[str, int], dict[str, Any] | None]
  damaged: list[str]
  here: bool = True

  def of(self, experiment: Experiment) -> Results:
    """Those of an experiment's runs: a folder may hold others', too."""
    names = {name for name, _ in experiment.runs}
    own = {cell: r for cell, r in self.cells.items() if cell[0] in names}
    return dataclasses.replace(self, cells=own)

  @property
  def done(self) -> list[dict[str, Any]]:
    """The results that are there."""
    return [r for r in self.cells.values() if r is not None]

  @property
  def missing(self) -> list[str]:
    """The names of the cells that are not."""
    return [f"{n}/{s}" for (n, s), r in self.cells.items() if r is None]

  def named_missing(self) -> list[str]:
    """`even/1`, `odd (all 2 seeds)`: a run without any result once."""
    return self._named({cell for cell, r in self.cells.items() if r is None})

  def _named(self, cells: set[tuple[str, int]]) -> list[str]:
    """Cells by name; those of a whole run once."""
    left: dict[str, list[int]] = {}
    for run, seed in self.cells:
      if (run, seed) in cells:
        left.setdefault(run, []).append(seed)
    total, named = Counter(run for run, _ in self.cells), []
    for run, seeds in left.items():
      if 1 < len(seeds) == total[run]:
        named.append(f"{run} (all {len(seeds)} seeds)")
      else:
        named += [f"{run}/{seed}" for seed in seeds]
    return named

  @property
  def runs(self) -> list[str]:
    """The names of the runs, in order."""
    return list(dict.fromkeys(name for name, _ in self.cells))

  def by_run(self) -> dict[str, list[dict[str, Any]]]:
    """What `tabulate` gets: the results of every run; may be none."""
    out: dict[str, list[dict[str, Any]]] = {name: [] for name in self.runs}
    for (name, _), result in self.cells.items():
      if result is not None:
        out[name].append(result)
    return out

  def strangers(self) -> set[tuple[str, int]]:
    """The cells of other code than the one at hand, where codes are mixed."""
    made = {provenance.told(r) for r in self.done}
    if len(made) < 2:
      return set()
    others = [r for r in self.done if self.here and not provenance.is_ours(r)]
    # None or all: the code at hand does not tell; then those of fewest results.
    if len(others) in (0, len(self.done)):
      most = Counter(map(provenance.told, self.done)).most_common(1)[0][0]
      others = [r for r in self.done if provenance.told(r) != most]
    return {(r["run"], r["seed"]) for r in others}

  def lacks(self, most: int | None = None) -> list[str]:
    """Sentences on what is missing, or of other code than the rest.

    Args:
      most: names no more than that; for a table, below a list of all.
    """
    missing = _listed(self.named_missing(), most) if self.missing else ""
    return [*([f"Missing: {missing}."] if missing else []), *self.mixed(most)]

  def mixed(self, most: int | None = None) -> list[str]:
    """A sentence on the cells of other code than the rest, if there are any."""
    strangers = self.strangers()
    if not strangers:
      return []
    made = Counter(map(provenance.told, self.done))
    told = "; ".join(f"{n} of {code}" for code, n in made.items())
    names = _listed(self._named(strangers), most)
    return [
      f"Marked *, of another version of the code: {names} (results: {told})."
    ]

  def notes(self) -> list[str]:
    """Sentences on how far it is, what it lacks, and which code made it."""
    out = [f"{len(self.done)} of {len(self.cells)} cells are done."]
    out += [*self.lacks(), *self.damaged]
    made = {provenance.told(r) for r in self.done}
    if len(made) == 1 and not provenance.is_ours(self.done[0]):
      here = provenance.told(
        {"versions": provenance.versions(), "commit": provenance.commit()}
      )
      out.append(
        f"All results are of another version of the code, {made.pop()}; the "
        f"code at hand is {here}."
      )
    return out

  def marked(self, table: Table) -> Table:
    """The table, whose rows of runs say what their results lack."""
    if not table.measured:
      return table
    total = Counter(name for name, _ in self.cells)
    done = Counter(r["run"] for r in self.done)
    strange = {run for run, _ in self.strangers()}
    rows = []
    made_of = table.of or [(first,) for first, *_ in table.rows]
    for (label, *rest), runs in zip(table.rows, made_of, strict=True):
      there, all_ = (sum(of[run] for run in runs) for of in (done, total))
      if there < all_:
        cells = "seeds" if len(runs) == 1 else "cells"
        label = f"{label} ({there} of {all_} {cells})"
      if strange.intersection(runs):
        label = f"{label} *"
      rows.append((label, *rest))
    notes = [*table.notes, *self.lacks(_IN_A_TABLE)]
    return dataclasses.replace(table, rows=rows, notes=notes)

  def seconds(self) -> float | None:
    """What a cell takes, by those that are done."""
    spent = [r["seconds"] for r in self.done]
    return statistics.median(spent) if spent else None


def path(folder: pathlib.Path, run: str, seed: int) -> pathlib.Path:
  """Of a cell's result."""
  return folder / run / f"{seed}.json"


def read(folder: pathlib.Path) -> Results:
  """The results in a folder, or in `results/` of a sweep's workdir.

  Raises:
    UserError: there is no sweep.
  """
  place = (
    folder / "results" if (folder / "results" / SWEEP).exists() else folder
  )
  if not (place / SWEEP).exists():
    raise UserError(
      f"there is no sweep in {folder} (no {SWEEP}); `amtml sweep` writes one"
    )
  what, fix = "the sweep", "the same `amtml sweep` writes it again"
  header = files.read_json(place / SWEEP, what, fix)
  wrong = checks.wrong(header, _HEADER, "")
  if not wrong and header["format"] != FORMAT:
    wrong = f"format={header['format']}, and this version reads {FORMAT}"
  checks.check(
    wrong is None, f"{what} {place / SWEEP} cannot be read: {wrong}; {fix}"
  )
  cells, damaged = {}, []
  for name, seed in header["cells"]:
    try:
      cells[name, seed] = _result(place, name, seed)
    except UserError as error:
      cells[name, seed] = None
      damaged.append(f"{error}.")
  return Results(place, header, cells, damaged)


def _result(
  folder: pathlib.Path, name: str, seed: int
) -> dict[str, Any] | None:
  """A cell's result, None where there is none.

  Raises:
    UserError: it is damaged.
  """
  file = path(folder, name, seed)
  if not file.exists():
    return None
  what, fix = "the result", "the same `amtml sweep` writes it again"
  result = files.read_json(file, what, fix)
  wrong = checks.wrong(result, _RESULT, "")
  if not wrong and (result["run"], result["seed"]) != (name, seed):
    wrong = f"it is of {result['run']}/{result['seed']}"
  checks.check(wrong is None, f"{what} {file} is damaged: {wrong}; {fix}")
  return result


def curve(
  workdir: pathlib.Path, student: int | None = None
) -> list[dict[str, Any]]:
  """What a report draws of a run's log, every evaluation a line.

  Args:
    workdir: of the run.
    student: its place among several.
  """
  kept = ("epoch", "train/loss", "train/weights_entropy")
  lines = metrics.read(workdir)
  if student is not None:
    own = (
      {
        **metrics.flat(line["validation/seeds"][student], "validation/"),
        **metrics.flat(line["train/seeds"][student], "train/"),
      }
      for line in lines
    )
    lines = [a | b for a, b in zip(lines, own, strict=True)]
  return [{k: v for k, v in line.items() if _drawn(k, kept)} for line in lines]


def _drawn(key: str, kept: Sequence[str]) -> bool:
  student = key.startswith("validation/student/")
  return key in kept or student or key.startswith("train/weight/")


def _listed(names: list[str], most: int | None) -> str:
  """`a, b and 3 more`."""
  cut = len(names) if most is None else most
  more = f" and {len(names) - cut} more" if len(names) > cut else ""
  return ", ".join(names[:cut]) + more
