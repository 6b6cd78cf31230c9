"""Time, memory and a machine's ceilings: how to measure, not what."""

from __future__ import annotations

import ctypes
import dataclasses
import math
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

# A side's turn lasts as long at least, so that the clock and the other side's
# leavings in the caches do not count.
SECONDS_A_TURN = 0.2


@dataclasses.dataclass
class Side:
  """Something to be timed.

  Attributes:
    name: what a table calls it.
    call: starts it, and returns what to wait for.
    wait: until that is done.
    steps: that one call does; the seconds are of one.
    overlaps: whether the next call may start before the last one is done.
    seconds: of every turn.
  """

  name: str
  call: Callable[[], Any]
  wait: Callable[[Any], Any] = jax.block_until_ready
  steps: int = 1
  overlaps: bool = True
  seconds: list[float] = dataclasses.field(default_factory=list)

  @property
  def median(self) -> float:
    """Seconds a step."""
    return statistics.median(self.seconds)

  def turn(self, calls: int) -> float:
    """Seconds a step over so many calls."""
    start = time.perf_counter()
    for left in reversed(range(calls)):
      result = self.call()
      if not (left and self.overlaps):
        self.wait(result)
    return (time.perf_counter() - start) / (calls * self.steps)


def alternate(sides: Sequence[Side], rounds: int) -> None:
  """Times all sides, one after the other in every round.

  A machine that slows down slows all of them: believe their ratios.
  """
  calls = {}
  for side in sides:
    side.turn(1)  # compiles, allocates
    once = side.turn(1) * side.steps
    calls[side.name] = max(1, math.ceil(SECONDS_A_TURN / max(once, 1e-6)))
  for i in range(rounds):
    for side in sides if i % 2 else reversed(sides):
      side.seconds.append(side.turn(calls[side.name]))


def ratio(above: Side, below: Side) -> float:
  """The median over the rounds of one side's time by the other's."""
  pairs = zip(above.seconds, below.seconds, strict=True)
  return statistics.median(a / b for a, b in pairs)


class Turns:
  """The loop's terminal: notes the time, and lets the bare step have its turn.

  When the metrics of an epoch's last dispatch have come, nothing is in flight.
  """

  name = "bench"

  def __init__(self, loop: Side, bare: Side, epoch: int):
    self._loop, self._bare, self._epoch = loop, bare, epoch
    self._first: tuple[int, float] | None = None

  def advance(self, done: int, *_: Any) -> None:
    """After a dispatch."""
    now = time.perf_counter()
    if self._first is None:
      self._first = (done, now)
    if done % self._epoch:
      return
    steps, start = done - self._first[0], self._first[1]
    self._first = None
    if done == self._epoch or not steps:  # the first one compiles
      return
    self._loop.seconds.append((now - start) / steps)
    turn = self._bare.turn(max(1, steps // self._bare.steps))
    self._bare.seconds.append(turn)

  def say(self, text: str) -> None:
    """Nobody listens."""


def peak_added(do: Callable[[], Any]) -> float | None:
  """Host megabytes that doing it adds at its peak; None where none can tell."""
  try:
    # What is free goes back to the system, so that its use is seen; then the
    # peak starts again.
    ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
  except (AttributeError, OSError):  # another system, or not allowed
    return None
  do()
  return max(0.0, _status("VmHWM") - before)


def _status(key: str) -> float:
  lines = pathlib.Path("/proc/self/status").read_text().splitlines()
  (line,) = [x for x in lines if x.startswith(f"{key}:")]
  return int(line.split()[1]) / 1024


def device_peak() -> float | None:
  """The most megabytes a device ever held; None where it does not tell."""
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  peaks = [s["peak_bytes_in_use"] for s in stats if "peak_bytes_in_use" in s]
  return max(peaks) / 2**20 if peaks else None


def ceilings(dtype: str, *, size: int = 8192) -> dict[str, float]:
  """What one device reaches at best: a big matrix product, and a big copy.

  Args:
    dtype: of the product.
    size: of the square matrices; the copy is of four such in float32.

  Returns:
    `flops` and `bytes` a second.
  """
  key = jax.random.key(0)
  square = jax.random.normal(key, (size, size), jnp.dtype(dtype))
  long = jnp.zeros((4 * size * size,), jnp.float32)
  product, copy = jax.jit(lambda x: x @ x), jax.jit(lambda x: x + 1)
  sides = (
    Side("flops", lambda: product(square)),
    Side("bytes", lambda: copy(long)),
  )
  alternate(sides, 3)
  work = {"flops": 2 * size**3, "bytes": 2 * long.nbytes}
  return {side.name: work[side.name] / min(side.seconds) for side in sides}
