"""What `amtml report` writes of a sweep: Markdown, CSV, and one HTML page."""

from __future__ import annotations

import csv
import io
import os
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from amtml_jax import (
  charts,
  experiment,
  files,
  loading,
  metrics,
  page,
  provenance,
  results,
)
from amtml_jax import tables as plain
from amtml_jax.experiment import Experiment
from amtml_jax.progress import View
from amtml_jax.results import Results
from amtml_jax.tables import Table

Cells = list[dict[str, Any]]

_BAND = ", and all between the least and the most"


def tables(there: Results, of: Experiment) -> list[Table]:
  """What the experiment makes of the results, with what they lack.

  Raises:
    UserError: its own function fails, or gives no tables.
  """
  there = there.of(of)
  made = loading.called(of.module.tabulate, of.path, of.flag, there.by_run())
  return [there.marked(t) for t in plain.checked(made, of.flag)]


def write(folder: pathlib.Path, argument: str, view: View) -> None:
  """Writes report.md, report.csv and report.html into a sweep's folder.

  Args:
    folder: a sweep's workdir, or a copy of its `results/`.
    argument: of `--experiment`, or empty.
    view: is told.
  """
  there = results.read(folder)
  of = experiment.load(argument or _known(there.header["experiment"]))
  besides = [run for run in there.runs if run not in dict(of.runs)]
  there = there.of(of)
  shown, title, notes = tables(there, of), of.title, there.notes()
  if besides:
    names = ", ".join(besides)
    notes.append(f"Not shown, runs that {of.flag} has not: {names}.")
  figures = {}
  if charts.there():
    figures = {
      caption: charts.svg(figure, f"f{i}")
      for i, (caption, figure) in enumerate(_figures(there, shown, of).items())
    }
  else:
    notes.append(charts.MISSING)
    view.say(charts.MISSING)
  cells = _cells(there)
  text = "\n".join(
    [
      f"# {plain.inline(title)}\n",
      *(f"{plain.inline(note)}\n" for note in notes),
      *map(plain.markdown, shown),
    ]
  )
  for name, content in (
    ("report.md", text),
    ("report.csv", _csv(there)),
    ("report.html", page.page(title, notes, shown, figures, cells)),
  ):
    files.replace(folder / name, content)
    view.say(f"written: {folder / name}")


def _known(argument: str) -> str:
  """The experiment that a sweep names; by its name where its file is gone."""
  name, colon, text = argument.partition(":")
  if os.path.isfile(name):
    return argument
  stem = pathlib.Path(name).stem
  return f"{stem}{colon}{text}" if stem in loading.experiments() else argument


def _figures(
  there: Results, shown: Sequence[Table], of: Experiment
) -> dict[str, Any]:
  """By caption: bars of the tables, curves, weights, and the file's own."""
  by_run, out = there.by_run(), {}
  for table in shown:
    if table.bars:
      out[table.title] = charts.bars(table.bars, table.unit)
  for caption, key, unit, band in (
    (*("Validation accuracy", "validation/student/accuracy", "%"), _BAND),
    # Older results have the mean of all seeds here.
    (*("Entropy of the teachers' weights", "train/weights_entropy", ""), ""),
  ):
    scale = 100.0 if unit else 1.0
    lines = {n: _band(cells, key, scale) for n, cells in by_run.items()}
    lines = {n: line for n, line in lines.items() if line[0]}
    if 0 < len(lines) <= charts.APART:  # of more nobody would find one
      out[f"{caption} by epoch: mean over seeds{band}"] = charts.curves(
        lines, unit or "entropy"
      )
  rows = {n: _weights(cells) for n, cells in by_run.items()}
  rows = {n: row for n, row in rows.items() if row}
  if rows:
    out["Whom the student listens to: mean over seeds"] = charts.weights(rows)
  draw: Callable[..., Any] | None = getattr(of.module, "draw", None)
  if draw is not None:
    out |= loading.called(draw, of.path, of.flag, by_run)
  return out


def _band(cells: Cells, key: str, scale: float) -> charts.Band:
  """Epochs, and of the seeds' values mean, least and most at each."""
  at: dict[int, list[float]] = {}
  for cell in cells:
    for line in cell["curve"]:
      if key in line and "epoch" in line:
        at.setdefault(line["epoch"], []).append(scale * line[key])
  values = [at[epoch] for epoch in sorted(at)]
  means, low, high = (
    [f(v) for v in values] for f in (statistics.mean, min, max)
  )
  return sorted(at), means, low, high


def _weights(cells: Cells) -> dict[str, float]:
  """Every teacher's mean weight."""
  found = [c["result"]["weights"] for c in cells if "weights" in c["result"]]
  names = dict.fromkeys(n for weights in found for n in weights)
  return {n: statistics.mean(w.get(n, 0.0) for w in found) for n in names}


def _cells(there: Results) -> Table:
  """One line a cell: what became of it, and by which code."""
  strange, rows = there.strangers(), []
  for (name, seed), result in there.cells.items():
    if result is None:
      rows.append((name, str(seed), "missing", None, None))
      continue
    mark = " *" if (name, seed) in strange else ""
    code, spent = provenance.told(result), f"{result['seconds']:.0f} s"
    rows.append((name, str(seed), "done", spent, code + mark))
  columns = ("run", "seed", "state", "time", "code")
  return Table(f"All {len(rows)} cells", columns, rows)


def _csv(there: Results) -> str:
  """Every number of every cell: a line a cell, a column a number."""
  lines = []
  for result in there.done:
    flat = metrics.flat(result["result"])
    lines.append(
      {
        "run": result["run"],
        "seed": result["seed"],
        "commit": result["commit"],
        **{k: v for k, v in flat.items() if not isinstance(v, list)},
      }
    )
  columns = list(dict.fromkeys(k for line in lines for k in line))
  out = io.StringIO()
  writer = csv.DictWriter(out, columns or ["run", "seed"], lineterminator="\n")
  writer.writeheader()
  writer.writerows(lines)
  return out.getvalue()
