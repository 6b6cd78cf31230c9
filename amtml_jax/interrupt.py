"""SIGTERM and SIGINT: finish the dispatch in flight, save, then stop."""

from __future__ import annotations

import contextlib
import signal
import types
from collections.abc import Iterator

from amtml_jax.errors import Terminated


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
def told() -> Iterator[None]:
  """Raises Terminated for a SIGTERM that no `Interrupt` waits for."""

  def stop(number: int, frame: types.FrameType | None) -> None:
    raise Terminated

  try:
    before = signal.signal(signal.SIGTERM, stop)
  except ValueError:  # not the main thread
    yield
    return
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
