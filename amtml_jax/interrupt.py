"""SIGTERM and SIGINT: finish the dispatch in flight, save, then stop."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import types
from collections.abc import Iterator

from amtml_jax.errors import InterruptedRun


class Interrupt:
  """Inside `with Interrupt() as interrupt`, a signal sets `interrupt.asked`.

  A second one stops at once, as it would have without this.
  """

  def __init__(self):
    self.asked = False
    self._before: dict[int, object] = {}

  def __enter__(self) -> Interrupt:
    for number in (signal.SIGTERM, signal.SIGINT):
      try:
        before = signal.signal(number, self._ask)
        # None: a handler that was not Python's, which Python cannot put back.
        self._before[number] = signal.SIG_DFL if before is None else before
      except ValueError:  # not the main thread: a notebook's, or a test's
        break
    return self

  def _ask(self, number: int, frame: types.FrameType | None) -> None:
    del frame
    self.asked = True
    signal.signal(number, self._before[number])

  def __exit__(self, *exception: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)


@contextlib.contextmanager
def resumable() -> Iterator[None]:
  """SIGTERM between trainings, too, ends with the code of what can go on.

  While a network trains, an `Interrupt` has the signal. Elsewhere all that
  counts is written whole, so that nothing needs to be waited for.
  """

  def leave(number: int, frame: types.FrameType | None) -> None:
    del number, frame
    sys.stderr.write("amtml: stopped; the same command goes on from there\n")
    sys.stderr.flush()
    os._exit(InterruptedRun.exit_code)

  try:
    before = signal.signal(signal.SIGTERM, leave)
  except ValueError:  # not the main thread
    yield
    return
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
