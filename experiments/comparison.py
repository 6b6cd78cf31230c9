"""Runs beside each other, seed by seed: the columns that the tables share."""

import statistics
from collections.abc import Sequence
from typing import Any

from scipy import stats

from amtml_jax.tables import Table

Cells = Sequence[dict[str, Any]]
Results = dict[str, Cells]


def scores(cells: Cells, *keys: str, scale: float = 100.0) -> dict[int, float]:
  """By seed a number of each result; seeds that lack it are left out."""
  found = {}
  for cell in cells:
    value = cell["result"]
    for key in keys:
      value = value.get(key) if isinstance(value, dict) else None
    if value is not None:
      found[cell["seed"]] = scale * value
  return found


def runs_of(results: Results, method: str) -> list[str]:
  """The runs whose first word it is, as in `gate 0.97`."""
  return [run for run in results if run.split()[0] == method]


def accuracy(cells: Cells) -> dict[int, float]:
  """The last student's test accuracy by seed, in percent."""
  return scores(cells, "student", "test_accuracy")


def mean_std(values: dict[int, float]) -> tuple[float, float]:
  """Over seeds; one alone has no spread."""
  numbers = list(values.values())
  spread = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
  return statistics.mean(numbers), spread


def shown(values: dict[int, float], digits: int = 2) -> str | None:
  """`97.21 ± 0.09`: mean and standard deviation over seeds."""
  if not values:
    return None
  mean, spread = mean_std(values)
  alone = len(values) == 1
  return f"{mean:.{digits}f}" + ("" if alone else f" ± {spread:.{digits}f}")


def gains(own: dict[int, float], beside: dict[int, float]) -> dict[int, float]:
  """Seed by seed, where both are there."""
  return {seed: own[seed] - beside[seed] for seed in own if seed in beside}


def difference(own: dict[int, float], beside: dict[int, float]) -> tuple:
  """Mean difference over the seeds of both, and p of the paired t-test.

  Two-sided, null hypothesis: no difference. None where nothing can be said.
  """
  gained = list(gains(own, beside).values())
  if not gained:
    return None, None
  text = f"{round(statistics.mean(gained), 2) + 0.0:+.2f}"  # no -0.00
  if len(gained) < 2 or statistics.stdev(gained) < 1e-9:  # but for rounding
    return text, None
  test = stats.ttest_1samp(gained, 0.0)
  return text, f"{test.pvalue:.3f}" if test.pvalue >= 0.001 else "<0.001"


def bars(results: Results) -> dict[str, tuple[float, float]]:
  """Mean accuracy and its spread, by run."""
  found = {run: accuracy(cells) for run, cells in results.items()}
  return {run: mean_std(values) for run, values in found.items() if values}


def table(title: str, results: Results, reference: str) -> Table:
  """Accuracy, its difference to a run's, calibration error, agreement."""
  beside = accuracy(results.get(reference, ()))
  rows = []
  for run, cells in results.items():
    own = accuracy(cells)
    gain = (None, None) if run == reference else difference(own, beside)
    rows.append(
      (
        run,
        shown(own),
        *gain,
        shown(scores(cells, "student", "test_calibration_error")),
        shown(scores(cells, "student", "test_agreement")),
        shown(scores(cells, "ensemble", "adaptive", "test_accuracy")),
      )
    )
  return Table(
    title=title,
    columns=(
      "run",
      "test accuracy",
      f"against {reference}",
      "p",
      "calibration error",
      "agreement",
      "mixture's accuracy",
    ),
    rows=rows,
    notes=(
      "In percent, mean ± standard deviation over seeds, of the last student. "
      f"Against {reference}: the mean of the paired differences, and p of the "
      "two-sided paired t-test, where they are not all alike. Calibration "
      "error: expected, over 15 bins of equal width. Agreement: of student and "
      "uniform ensemble on the test images' classes. Mixture: the teachers as "
      "the run weighs them.",
    ),
    bars={"test accuracy": bars(results)},
    unit="test accuracy, %",
  )
