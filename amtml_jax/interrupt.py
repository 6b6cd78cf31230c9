"""SIGTERM and SIGINT: finish the dispatch in flight, save, then stop."""

from __future__ import annotations

import signal
import types


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
        self._before[number] = signal.signal(number, self._ask)
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
