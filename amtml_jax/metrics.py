"""What was measured: means of (sum, count) pairs, JSON lines, TensorBoard."""

from __future__ import annotations

import json
import math
import pathlib
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

from amtml_jax import files

FILE = "metrics.jsonl"


Sums = dict[str, list[float]]


def add(sums: Sums, parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
  """Adds (sum, count) pairs over steps to `sums`, in place.

  Sums and counts apart: a mean of means would weigh rows unequally.
  """
  for name, (value, count) in parts.items():
    before = sums.get(name, [0.0, 0.0])
    added = (float(np.sum(value, dtype=np.float64)), float(np.sum(count)))
    sums[name] = [before[0] + added[0], before[1] + added[1]]


def means(sums: Sums) -> dict[str, float]:
  """By name, of everything added so far."""
  return {name: value / count for name, (value, count) in sums.items()}


def first_not_finite(
  parts: dict[str, tuple[np.ndarray, np.ndarray]],
) -> tuple[int, str, float] | None:
  """The first step, a part in it, and its value that is NaN or infinite.

  A term is named before the loss and the gradient that it spoils.
  """
  names = sorted(parts, key=lambda n: (n in ("loss", "gradient_norm"), n))
  for step in range(len(parts["loss"][0])):
    for name in names:
      value = float(parts[name][0][step])
      if not math.isfinite(value):
        return step, name, value
  return None


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
  """`{"a": {"b": 1}}` -> `{"a/b": 1}`."""
  out = {}
  for name, value in values.items():
    if isinstance(value, dict):
      out |= flat(value, f"{prefix}{name}/")
    else:
      out[f"{prefix}{name}"] = value
  return out


class Log:
  """One line an evaluation in metrics.jsonl, and the same in TensorBoard."""

  def __init__(self, workdir: pathlib.Path, step: int):
    """Opens the log of a run that stands at `step`.

    Lines of later steps, from before an interruption, are dropped: these
    steps are done again.
    """
    self._path = workdir / FILE
    kept = [line for line in read(workdir) if line["step"] <= step]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    # Also where a kill tore the last line: the next one would be glued to it.
    if self._path.exists() and self._path.read_text(encoding="utf-8") != text:
      files.write(self._path, text)
    self._board = SummaryWriter(str(workdir / "events"), purge_step=step + 1)

  def write(self, line: dict[str, Any]) -> None:
    """Adds one line; `step` and `phase` are among its keys."""
    with self._path.open("a", encoding="utf-8") as file:
      file.write(json.dumps(line) + "\n")
    for name, value in line.items():
      if isinstance(value, float):
        self._board.add_scalar(name, value, line["step"])
    self._board.flush()

  def close(self) -> None:
    """Flushes the events."""
    self._board.close()


def read(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Every whole line of a run's log; a torn last one is left out."""
  path = workdir / FILE
  if not path.exists():
    return []
  lines = []
  for text in path.read_text(encoding="utf-8").splitlines():
    try:
      lines.append(json.loads(text))
    except ValueError:
      break
  return lines
