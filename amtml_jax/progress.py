"""What a person sees while it works: one live line, or plain log lines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
  BarColumn,
  MofNCompleteColumn,
  Progress,
  TextColumn,
  TimeRemainingColumn,
)

from amtml_jax import processes

# Where the output is no terminal: a line so often, and at every evaluation.
SECONDS_BETWEEN_LINES = 30.0


class View:
  """Speaks to the terminal, in the first process."""

  def __init__(self, console: Console | None = None):
    self.console = console or Console(
      highlight=False, quiet=not processes.first()
    )

  def say(self, text: str) -> None:
    """One line, above the live one where there is one."""
    self.console.print(text, markup=False, soft_wrap=True)

  @contextlib.contextmanager
  def phase(self, name: str, steps: int, done: int) -> Iterator[Line]:
    """Shows one training run."""
    if not self.console.is_terminal:
      yield Line(self, name, steps, done)
      return
    columns = (
      TextColumn("{task.description}"),
      BarColumn(bar_width=None),
      MofNCompleteColumn(),
      TextColumn("{task.fields[now]}"),
      TimeRemainingColumn(),
    )
    with Progress(*columns, console=self.console, transient=True) as bars:
      task = bars.add_task(name, total=steps, completed=done, now="")
      yield Line(self, name, steps, done, bars, task)


class Line:
  """The progress of one run."""

  def __init__(
    self,
    view: View,
    name: str,
    steps: int,
    done: int,
    bars: Progress | None = None,
    task: int | None = None,
  ):
    self.name = name
    self._view, self._steps = view, steps
    self._bars, self._task = bars, task
    self._first, self._start = done, None
    self._spoke = time.monotonic()

  def advance(
    self, step: int, images: int, place: str, latest: str = ""
  ) -> None:
    """After a dispatch whose results have come.

    Args:
      step: done so far.
      images: of a step.
      place: which epoch, of how many.
      latest: figures.
    """
    now = time.monotonic()
    if self._start is None:
      # The first dispatch compiled: it says nothing about the pace.
      self._first, self._start = step, now
    rate = (step - self._first) / max(now - self._start, 1e-9)
    pace = f"{rate * images:,.0f} images/s  " if rate else ""
    text = f"{place}  {pace}{latest}"
    if self._bars is not None:
      self._bars.update(self._task, completed=step, now=text)
    elif now - self._spoke >= SECONDS_BETWEEN_LINES:
      self._spoke = now
      left = f"  {(self._steps - step) / rate:,.0f} s left" if rate else ""
      self._view.say(f"{self.name}  step {step}/{self._steps}  {text}{left}")

  def say(self, text: str) -> None:
    """A line that stays."""
    self._spoke = time.monotonic()
    self._view.say(f"{self.name}  {text}")
