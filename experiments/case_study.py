"""Whom the student listens to, image by image, and whether they are right.

    amtml sweep --experiment=case_study --workdir=runs/case_study
    amtml report runs/case_study

Digits, seeds 0 to 4, on the test split: the images whose teachers weigh most
unlike, one a class at most, with each teacher's soft target and weight (the
paper's Figs. 1 and 4, of the first seed); weights by class; and how a teacher's
weight goes with its being right. `:data=fashion_mnist` for another data set.
"""

import pathlib
import statistics
from typing import Any

from ml_collections import ConfigDict

from amtml_jax import commands, listening
from amtml_jax.defaults import arguments
from amtml_jax.experiments import bases, cases, comparison
from amtml_jax.progress import View
from amtml_jax.tables import Table

SEEDS = range(5)
METHODS = ("amtml", "amtml_mix", "gate", "log_gate")
RUNS = {name: {"method": name} for name in METHODS}


def get_config(text: str = "") -> ConfigDict:
  """The base; `text` is what follows the colon of --experiment."""
  return bases.base(arguments(text, data="digits")["data"])


def run(settings: ConfigDict, workdir: pathlib.Path, view: View) -> dict:
  """Trains as ever, then listens to every test image."""
  summary = commands.run(settings, workdir, view)
  training = commands.restored(settings, workdir, view)
  test, names = training.plan.splits.test, tuple(summary["teachers"])
  heard = listening.of_run(training, test)
  temperature = training.plan.run.temperature
  case = cases.figures(heard, test.classes)
  case["images"] = cases.pictures(heard, test, names, temperature)
  return {**summary, "case": case}


def draw(results: comparison.Results) -> dict[str, Any]:
  """By run the images of its first seed, a line each."""
  first = {run: own[0]["result"]["case"] for run, own in results.items() if own}
  return {
    f"{run}: an image, and each teacher's weight and soft target; the bar of "
    "what is right stands out": cases.drawn(case["images"])
    for run, case in first.items()
  }


def tabulate(results: comparison.Results) -> list[Table]:
  """Weights beside what is right, and by class."""
  columns = {
    "correlation": ("correlation", 1.0, 3),
    "weight on the right": ("weight_on_right", 100.0, 1),
    "if weights were even": ("even_on_right", 100.0, 1),
    "contested images": ("contested", 1.0, 0),
  }
  rows = []
  for run, cells in results.items():
    shown = [
      comparison.shown(comparison.scores(cells, "case", key, scale=scale), n)
      for key, scale, n in columns.values()
    ]
    mixture = comparison.scores(cells, "ensemble", "adaptive", "test_accuracy")
    own = (comparison.accuracy(cells), mixture)
    rows.append((run, *map(comparison.shown, own), *shown))
  made = Table(
    "Weight and being right",
    ("run", "test accuracy", "mixture's accuracy", *columns),
    rows,
    notes=(
      "Mean ± standard deviation over seeds, on the test split. Correlation: "
      "point-biserial, of a teacher's weight with its being right, over all "
      "images and teachers. Contested: some teachers are right, and some "
      "wrong; there, the weight in percent on those that are right, and what "
      "even weights would put on them.",
    ),
  )
  return [made, *(_by_class(run, c) for run, c in results.items() if c)]


def _by_class(run: str, cells: comparison.Cells) -> Table:
  """A run's mean weights over seeds, class by class."""
  seeds = [cell["result"]["case"]["by_class"] for cell in cells]
  rows = []
  for lines in zip(*seeds, strict=True):
    every = zip(*(line["weights"] for line in lines), strict=True)
    means = [f"{statistics.mean(weights):.3f}" for weights in every]
    rows.append((lines[0]["class"], lines[0]["images"], *means))
  return Table(
    f"Weights by class: {run}",
    ("class", "images", *cells[0]["result"]["teachers"]),
    rows,
    notes=("Mean over the class's test images, and over seeds.",),
  )
