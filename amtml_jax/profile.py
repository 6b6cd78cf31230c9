"""A trace of a few steady steps, in the formats of the usual viewers.

    FOLDER/NAME/plugins/profile/TIME/perfetto_trace.json.gz   ui.perfetto.dev
    FOLDER/NAME/plugins/profile/TIME/HOST.xplane.pb           TensorBoard, xprof

One trace a network that trains, and one of its first evaluation. A trace is
bounded: a run of hours neither fills the disk nor runs slower for it.
"""

from __future__ import annotations

import contextlib
import functools
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from amtml_jax import processes

# The first dispatch compiles; the second may still allocate.
SKIP = 2
# What is traced then: so many steps, or seconds if they are over before.
STEPS, SECONDS = 10, 5.0


class _Traces:
  """What has been called how often, and what is traced now."""

  def __init__(self, folder: pathlib.Path, say: Callable[[str], None]):
    self._folder, self._say = folder, say
    self._calls: dict[Callable, int] = {}
    self._seen: dict[str, bool] = {}  # whether there is a trace of it
    self._now: Callable | None = None
    self._name, self._left, self._since = "", 0, 0.0

  def call(self, name: str, steps: int, do: Callable, *args: Any) -> Any:
    """Does it, in a trace where it is its turn."""
    calls = self._calls[do] = self._calls.get(do, 0) + 1
    self._seen.setdefault(name, False)
    if self._now is not do:
      self.stop()
    if calls == SKIP + 1:
      self._start(name, do)
    if self._now is not do:
      return do(*args)
    with jax.profiler.StepTraceAnnotation(name, step_num=calls):
      result = do(*args)
    self._left -= steps
    if self._left <= 0 or time.monotonic() - self._since >= SECONDS:
      jax.block_until_ready(result)  # devices are behind the host
      self.stop()
    return result

  def _start(self, name: str, do: Callable) -> None:
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # every Python call would drown the rest
    jax.profiler.start_trace(
      self._folder / name, create_perfetto_trace=True, profiler_options=options
    )
    self._now, self._name, self._seen[name] = do, name, True
    self._left, self._since = STEPS, time.monotonic()

  def stop(self) -> None:
    """Writes the trace, if there is one under way."""
    if self._now is None:
      return
    folder, self._now = self._folder / self._name, None
    try:
      jax.profiler.stop_trace()
    except OSError as error:  # a full disk: no reason to lose the run
      self._say(f"the trace in {folder} could not be written: {error.strerror}")
      return
    self._say(f"traced: {folder}; open its perfetto_trace.json.gz in Perfetto")

  def missed(self) -> list[str]:
    """Names with too few calls for a trace."""
    return [name for name, traced in self._seen.items() if not traced]


_asked: _Traces | None = None


@contextlib.contextmanager
def asked(folder: pathlib.Path, say: Callable[[str], None]) -> Iterator[None]:
  """Traces what is `watched` inside; in the first process.

  Args:
    folder: gets a folder for every name.
    say: is told where the traces are.
  """
  global _asked
  traces = _Traces(folder, say)
  _asked = traces if processes.first() else None
  try:
    yield
  finally:
    _asked = None
    traces.stop()
    for name in traces.missed():
      say(f"{name}: no trace, it takes more than {SKIP} calls")


def watched(name: str, steps: int, do: Callable[..., Any]) -> Callable:
  """A compiled function whose calls may become the trace of a name.

  Args:
    name: of the trace.
    steps: that one call does.
    do: compiled; the result of its last call in a trace is waited for.
  """

  @functools.wraps(do)
  def call(*args: Any) -> Any:
    return _asked.call(name, steps, do, *args) if _asked else do(*args)

  return call
