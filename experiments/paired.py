"""Accuracies of the same seeds, one method beside another."""

import math
import statistics


def line(values: list[float], beside: list[float]) -> dict[str, object]:
  """Mean and standard error of the accuracies, and of the paired gain."""
  gains = [a - b for a, b in zip(values, beside, strict=True)]
  root = math.sqrt(len(values))
  return {
    "accuracy": values,
    "mean": statistics.mean(values),
    "standard_error": statistics.stdev(values) / root,
    "gain": statistics.mean(gains),
    "gain_standard_error": statistics.stdev(gains) / root,
  }


def cells(own: dict[str, object]) -> tuple[str, str]:
  """The two columns of a table: accuracy and gain, in percent."""
  return (
    f"{own['mean']:.2f} ± {own['standard_error']:.2f}",
    f"{own['gain']:+.2f} ± {own['gain_standard_error']:.2f}",
  )
