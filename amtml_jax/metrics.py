"""What was measured: means of (sum, count) pairs, JSON lines, TensorBoard."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import time
from typing import Any

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar

from amtml_jax import files, processes
from amtml_jax.errors import NotSavedError

FILE = "metrics.jsonl"


Sums = dict[str, list[Any]]


def add(sums: Sums, parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
  """Adds (sum, count) pairs over steps to `sums`, in place.

  Sums and counts apart: a mean of means would weigh rows unequally. Of several
  students each has its own, in lists, as a checkpoint keeps them.
  """
  for name, pair in parts.items():
    before = sums.get(name, [0.0, 0.0])
    added = (np.sum(x, axis=0, dtype=np.float64) for x in pair)
    sums[name] = [
      (np.asarray(b) + a).tolist() for b, a in zip(before, added, strict=True)
    ]


def means(sums: Sums) -> dict[str, float]:
  """By name, of everything added so far; of several students over all."""
  return {
    name: float(np.sum(value) / np.sum(count))
    for name, (value, count) in sums.items()
  }


def of_each(sums: Sums, students: int) -> list[dict[str, float]]:
  """The means of each of several students."""
  return [
    {
      name: np.broadcast_to(value, students)[k].item()
      / np.broadcast_to(count, students)[k].item()
      for name, (value, count) in sums.items()
    }
    for k in range(students)
  ]


def first_not_finite(
  parts: dict[str, tuple[np.ndarray, np.ndarray]],
) -> tuple[int, str, float, int] | None:
  """The first step, a part in it that is not finite, its value, and whose.

  A term is named before the loss and the gradient that it spoils. The last is
  the student's place among several.
  """
  names = sorted(parts, key=lambda n: (n in ("loss", "gradient_norm"), n))
  for step in range(len(parts["loss"][0])):
    for name in names:
      values = np.atleast_1d(parts[name][0][step])
      for student in np.flatnonzero(~np.isfinite(values)).tolist():
        return step, name, float(values[student]), student
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
  """One line an evaluation in metrics.jsonl, and the same in TensorBoard.

  Every process may hold one; the first one's writes.
  """

  def __init__(self, workdir: pathlib.Path, step: int):
    """Opens the log of a run that stands at `step`.

    Lines of later steps, from before an interruption, are dropped: these
    steps are done again.
    """
    self._path, self._board = workdir / FILE, None
    if not processes.first():
      return
    kept = [line for line in read(workdir) if line["step"] <= step]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    # Also where a kill tore the last line: the next one would be glued to it.
    if self._path.exists() and self._path.read_bytes() != text.encode():
      files.replace(self._path, text)
    events = workdir / "events"
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    try:
      events.mkdir(parents=True, exist_ok=True)
      # Not SummaryWriter: its thread dies on a full disk, and its queue hangs.
      self._board = EventsWriter(str(events / "events"))
      self._event(step + 1, session_log=start)
    except OSError as error:
      raise _not_written(events, error) from None

  def _event(self, step: int, **what: Any) -> None:
    self._board.write_event(
      event_pb2.Event(wall_time=time.time(), step=step, **what)
    )

  def write(self, line: dict[str, Any]) -> None:
    """Adds one line; `step` and `phase` are among its keys.

    Raises:
      NotSavedError: it cannot be written; the lines before are whole.
    """
    if self._board is None:
      return
    text = (json.dumps(line) + "\n").encode()
    size = self._path.stat().st_size if self._path.exists() else 0
    try:
      with self._path.open("ab", buffering=0) as file:
        if file.write(text) < len(text):
          raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
      values = {n: v for n, v in line.items() if isinstance(v, float)}
      for name, value in values.items():
        self._event(line["step"], summary=scalar(name, value))
      self._board.flush()
    except OSError as error:
      if self._path.exists():
        os.truncate(self._path, size)
      raise _not_written(self._path, error) from None

  def close(self) -> None:
    """Closes the events."""
    if self._board is not None:
      with contextlib.suppress(OSError):  # a full disk has been said already
        self._board.close()


def _not_written(path: pathlib.Path, error: OSError) -> NotSavedError:
  return NotSavedError(f"{path} could not be written: {error.strerror}")


def read(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Every whole line of a run's log; torn and damaged ones are left out."""
  path = workdir / FILE
  if not path.exists():
    return []
  lines = []
  for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
    try:
      line = json.loads(text)
      whole = {"step": int(line["step"]), "seconds": float(line["seconds"])}
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
      continue
    lines.append({**line, **whole})
  return lines
