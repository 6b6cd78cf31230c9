"""What `amtml sweep` does: every cell of an experiment, or one.

workdir/
  results/         what is kept of it, see results.py
  cells/RUN/SEED/  a run each, see workdirs.py; SEED-SEED of several in one
  ensemble/        the teachers of all, each taught once
  teachers/        how they were trained
  taught/HASH/     the same two for runs that change how teachers are trained

The seeds of a run that keeps what its teachers say (`data.views`) train in one
program. Every cell goes on from where it stands; several processes may each do
another one, as a job array does.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from amtml_jax import (
  commands,
  config,
  continued,
  files,
  lock,
  metrics,
  network,
  processes,
  provenance,
  results,
)
from amtml_jax.checks import check, told
from amtml_jax.errors import DivergedError, Stop, UserError
from amtml_jax.experiment import Cell, Experiment
from amtml_jax.progress import View
from amtml_jax.results import Results
from amtml_jax.workdirs import FREE

# Of a student alone: what of a teacher's config tells no teachers apart.
_OWN = ("student", "seed", *FREE)


def pool(settings: ConfigDict, base: ConfigDict) -> str:
  """The folder, in the workdir, of the teachers that a config listens to.

  Teachers that are trained alike lie together, and are shared by name.
  """

  def alike(of: ConfigDict) -> str:
    run = config.as_dict(config.teacher(of, settings.teachers[0]))
    flat = metrics.flat(files.plain(run))
    kept = {k: v for k, v in flat.items() if k.replace("/", ".") not in _OWN}
    return files.digest([of.teacher.seed, kept])

  own = alike(settings)
  return "" if own == alike(base) else f"taught/{own[:8]}"


class Sweep:
  """The cells of an experiment in a workdir.

  Attributes:
    experiment: whose they are.
    cells: all of them, in order.
  """

  def __init__(
    self,
    experiment: Experiment,
    base: ConfigDict,
    workdir: pathlib.Path,
    view: View,
    seeds: Sequence[int] = (),
    index: int | None = None,
  ):
    """Checks every cell, and writes which ones there are.

    Args:
      experiment: from `experiment.load`.
      base: its config, perhaps with values of the command line's.
      workdir: a folder.
      view: is told.
      seeds: instead of the experiment's own.
      index: of the one cell, or program of several, to do; without it all are.

    Raises:
      UserError: a cell's config is wrong, the index is out of range, or the
        workdir is another sweep's.
    """
    self.experiment, self._base = experiment, base
    self._workdir, self._view = workdir, view
    self.cells = experiment.cells(base, seeds)
    self._own_run = getattr(experiment.module, "run", None)
    self._chosen = self._programs()
    self._alone, count = index is not None, len(self._chosen)
    if index is not None:
      check(
        0 <= index < count,
        f"--index={index} is out of range: {experiment.flag} has {count} "
        f"programs of {len(self.cells)} cells, 0 to {count - 1}",
      )
      self._chosen = self._chosen[index : index + 1]
    self._own_teach = getattr(experiment.module, "teach", None)
    self._teaches = getattr(experiment.module, "TEACH", True)
    alike = {c.run: c.settings for c in self.cells}  # but for their seeds
    self._pools = {run: self._pool(own) for run, own in alike.items()}
    self._taught: set[tuple[str, ...]] = set()
    self._ensembles: dict[str, Any] = {}  # of the experiment's own teaching
    self._one_network_a_name()
    others = continued.others(workdir, base, self.cells, experiment)
    header = {
      "format": results.FORMAT,
      "experiment": experiment.argument,
      "title": experiment.title,
      "base": files.plain(base.to_dict()),
      "cells": [*([c.run, c.seed] for c in self.cells), *others],
    }
    files.writable(self._results)
    files.write_json(self._results / results.SWEEP, header)

  def _programs(self) -> list[tuple[Cell, ...]]:
    """The cells by the program that trains them."""
    found: dict[tuple, list[Cell]] = {}
    for cell in self.cells:
      together = cell.settings.data.views and self._own_run is None
      together = together and config.resolve(cell.settings).peers == 1
      found.setdefault((cell.run, together or cell.name), []).append(cell)
    return [tuple(cells) for cells in found.values()]

  @property
  def _results(self) -> pathlib.Path:
    return self._workdir / "results"

  def _pool(self, settings: ConfigDict) -> str | None:
    """Where a run's teachers are taught; None where none are taught here."""
    run = config.resolve(settings)
    own = self._teaches and not self._own_teach
    own = own and run.needs_teachers and not run.ensemble
    return pool(settings, self._base) if own else None

  def _one_network_a_name(self) -> None:
    named: dict[tuple[str, str], tuple[str, str]] = {}
    for cell in self.cells:
      place = self._pools[cell.run]
      if place is None:
        continue
      for spec in cell.settings.teachers:
        name, variant = network.split_name(spec)
        before, run = named.setdefault((place, name), (variant, cell.run))
        check(
          before == variant,
          f"{self.experiment.flag}: the teacher {name!r} is a {before} in run "
          f"{run!r} and a {variant} in run {cell.run!r}; give one another name",
        )

  def _there(self) -> Results:
    """What there is now of this experiment's runs."""
    return results.read(self._results).of(self.experiment)

  def run(self) -> Results:
    """Does every cell that is not done, or the one of the index.

    Returns:
      What is there now.

    Raises:
      DivergedError: of the last cell that diverged; the others are done.
      UserError: a cell cannot be run.
    """
    diverged = None
    for program in self._chosen:
      there = self._there()
      left = [
        cell
        for cell in program
        if not processes.told(
          there.cells.get((cell.run, cell.seed)) is not None
        )
      ]
      left = _stretches(left)
      for cells in left:
        name = f"{cells[0].run}/{_named(cells)}"
        self._view.say(self._where(name, there))
        settings = self._with_teachers(cells[0])
        settings.seeds = len(cells)
        try:
          self._cells(cells, settings)
        except lock.InUseError:
          if self._alone:
            raise
          self._view.say(f"{name}  another process is at it")
        except DivergedError as error:
          self._view.say(f"{name}  {error}")
          diverged = error
          # Those of other seeds have done nothing wrong.
          left += [[cell] for cell in cells] if len(cells) > 1 else []
        finally:
          # A program maps memory in hundreds of pieces, of which a process may
          # have 65,530 on Linux: a long sweep would die of them.
          jax.clear_caches()
    there = self._there()
    self._view.say(there.notes()[0])
    if diverged:
      raise diverged
    return there

  def _where(self, name: str, there: Results) -> str:
    """How far the sweep is."""
    text = f"{name}  {len(there.done)} of {len(there.cells)} cells done"
    own = [c for cells in self._chosen for c in cells]
    left = sum(there.cells.get((c.run, c.seed)) is None for c in own)
    each = there.seconds()
    if each is None:
      return text
    of = "it alone" if self._alone else f"all {left}"
    return f"{text}, about {_duration(each * left)} left for {of}"

  def _cells(self, cells: Sequence[Cell], settings: ConfigDict) -> None:
    """Runs one, or several in one program, and writes each result."""
    folder = self._workdir / "cells" / cells[0].run / _named(cells)
    with lock.held(folder):
      start = time.monotonic()
      if self._own_run is None:
        result = commands.run(settings, folder, self._view)
      else:
        result = self._own(self._own_run, settings, folder, self._view)
      seconds = _seconds(result, time.monotonic() - start) / len(cells)
      every = result.pop("seeds", None)
      shared = ("seconds",) if every else ()  # of the whole program
      for k, cell in enumerate(cells):
        own, student = (every[k], k) if every else ({}, None)
        # What a run tells of itself stands beside it, once; where its teachers
        # lie is of no use elsewhere.
        kept = {
          key: value
          for key, value in {**result, **own}.items()
          if key not in (*("config", "versions", "digest", "run"), *shared)
        }
        files.write_json(
          results.path(self._results, cell.run, cell.seed),
          {
            "experiment": self.experiment.argument,
            "by": continued.kind(self.experiment),
            "run": cell.run,
            "seed": cell.seed,
            "commit": provenance.commit(),
            "versions": result.get("versions", provenance.versions()),
            "seconds": seconds,
            "config": files.plain(cell.settings.to_dict()),
            "resolved": continued.resolved(cell.settings),
            "result": files.plain(kept),
            "curve": results.curve(folder, student),
          },
        )

  def _own(self, function: Any, *args: Any) -> Any:
    """What a function of the experiment's file gives."""
    try:
      return function(*args)
    except Stop:
      raise
    except Exception as error:
      flag = self.experiment.flag
      raise UserError(f"{flag}: {told(error, self.experiment.path)}") from None

  def _with_teachers(self, cell: Cell) -> ConfigDict:
    """The cell's config under teachers that are there."""
    settings = cell.settings.copy_and_resolve_references()
    if self._own_teach and config.resolve(settings).needs_teachers:
      if cell.run not in self._ensembles:
        place = self._workdir / "taught"
        with lock.turn(place, self._view.say):
          self._ensembles[cell.run] = self._own(
            *(self._own_teach, cell.run, settings, place, self._view)
          )
      settings.ensemble = str(self._ensembles[cell.run])
    elif self._pools[cell.run] is not None:
      place = self._workdir / self._pools[cell.run]
      key = (self._pools[cell.run], *settings.teachers)
      if key not in self._taught:
        # Whoever comes second finds them taught.
        with lock.turn(place, self._view.say):
          commands.teach(settings, place, self._view)
        self._taught.add(key)
      settings.ensemble = str(place / "ensemble")
    return settings


def _stretches(cells: Sequence[Cell]) -> list[list[Cell]]:
  """Cells of one run by seeds that follow each other."""
  found: list[list[Cell]] = []
  for cell in sorted(cells, key=lambda c: c.seed):
    if not found or cell.seed != found[-1][-1].seed + 1:
      found.append([])
    found[-1].append(cell)
  return found


def _named(cells: Sequence[Cell]) -> str:
  first, last = cells[0].seed, cells[-1].seed
  return str(first) if first == last else f"{first}-{last}"


def _seconds(result: dict[str, Any], here: float) -> float:
  """Of a cell's own work: over all starts, where it says so."""
  spent = result.get("seconds", {})
  known = isinstance(spent, dict) and {"distill", "evaluate"} <= set(spent)
  return spent["distill"] + spent["evaluate"] if known else here


def _duration(seconds: float) -> str:
  if seconds < 120:
    return f"{seconds:.0f} s"
  minutes = seconds / 60
  return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
