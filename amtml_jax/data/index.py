"""One pass over a split that does not fit in memory, and what it finds out.

It is kept as `$XDG_CACHE_HOME/amtml_jax/index/KEY.npz` (`~/.cache` where that
is not set), so that a run that starts again does not read everything again.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import math
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from amtml_jax.data import pictures, splits
from amtml_jax.data.pictures import Index
from amtml_jax.types import Examples

CHUNK = 8 << 20  # bytes of pixels that a thread reads at once
# Smaller images cost more in Python, which one thread runs at a time, than in
# decoding: two threads read a TFDS set of 28 × 28 pixels slower than one.
SMALL = 16 << 10
SECONDS_BETWEEN_LINES = 30.0
VERSION = 1  # of what is kept

Result = TypeVar("Result")


def of(examples: Examples, *, say: Callable[[str], None]) -> Index:
  """The index of a split: the one that was kept, or a new one.

  Args:
    examples: the split.
    say: is told how far it is, every half a minute, and what went wrong with
      keeping it.

  Raises:
    UserError: what is wrong with an image or a label, in one sentence.
  """
  path = _path(examples)
  if path is None:
    return _measured(examples, say)
  index = _kept(path, examples)
  if index is None:
    index = _measured(examples, say)
    _keep(index, path, say)
  return index


def by_chunks(
  examples: Examples, work: Callable[[np.ndarray], Result]
) -> Iterator[Result]:
  """`work(rows)` for every stretch of rows, in order, several at a time."""
  pixels = math.prod(examples.shape)
  size = max(1, CHUNK // pixels)
  threads = pictures.THREADS if pixels >= SMALL else 1
  waiting = collections.deque()
  with ThreadPoolExecutor(threads, "amtml-index") as pool:
    try:
      for first in range(0, len(examples), size):
        rows = np.arange(first, min(first + size, len(examples)))
        waiting.append(pool.submit(work, rows))
        if len(waiting) > threads:  # so many are in memory at most
          yield waiting.popleft().result()
      while waiting:
        yield waiting.popleft().result()
    finally:
      for future in waiting:
        future.cancel()


def identity(paths: Iterable[Any], *more: Any) -> str:
  """An `Examples.identity`: the files' names, sizes and times, and the rest.

  Empty, so that nothing is kept, where a file is not on this machine's disks.
  """
  try:
    stats = [(os.path.abspath(p), os.stat(p)) for p in sorted(map(str, paths))]
  except OSError:
    return ""
  files = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
  return repr((files, more))


def _measured(examples: Examples, say: Callable[[str], None]) -> Index:
  def work(rows):
    data = pictures.read(examples, rows)
    return data, splits.moments(data.image)

  size = len(examples)
  shape = (size, *map(int, examples.shape))
  digest = splits.digest_of(shape, tuple(map(str, examples.classes)))
  label = np.empty(size, np.int32)
  moments = np.empty((size, 2, shape[-1]), np.int64)
  done, started = 0, time.monotonic()
  line = started
  for data, own in by_chunks(examples, work):
    digest.update(data.image)
    here = slice(done, done + len(own))
    label[here], moments[here] = data.label, own
    done = here.stop
    now = time.monotonic()
    if now - line >= SECONDS_BETWEEN_LINES:
      line = now
      say(
        f"{pictures.name(examples)}: {done:,} of {size:,} images indexed, "
        f"{done / (now - started):,.0f} a second"
      )
  digest.update(label.astype("<i4"))
  return Index(label, moments, digest.hexdigest())


def _path(examples: Examples) -> pathlib.Path | None:
  """Where its index is kept; None where the examples do not say who they are.

  Sizes and classes are part of the key: the fingerprint is over them too.
  """
  known = getattr(examples, "identity", "")
  if not known:
    return None
  shape = (len(examples), *map(int, examples.shape))
  whole = repr((VERSION, known, shape, tuple(map(str, examples.classes))))
  cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
  key = hashlib.sha256(whole.encode()).hexdigest()
  return pathlib.Path(cache, "amtml_jax", "index", f"{key[:32]}.npz")


def _kept(path: pathlib.Path, examples: Examples) -> Index | None:
  size, channels = len(examples), examples.shape[-1]
  try:
    # Pickles run code: never from a file.
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
      index = Index(file["label"], file["moments"], str(file["fingerprint"]))
  except Exception:  # not there, or damaged in whatever way: made anew
    return None
  if index.label.shape != (size,) or index.moments.shape != (size, 2, channels):
    return None
  return index


def _keep(index: Index, path: pathlib.Path, say: Callable[[str], None]) -> None:
  """Writes beside the file and renames: a reader never sees half of it."""
  beside = None
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
      beside = file.name
      np.savez(
        file,
        label=index.label,
        moments=index.moments,
        fingerprint=np.array(index.fingerprint),
      )
      file.flush()
      os.fsync(file.fileno())
    os.replace(beside, path)
  except OSError as error:
    reason = error.strerror or error
    say(f"cannot keep the index of the data in {path.parent}: {reason}")
    if beside is not None:
      with contextlib.suppress(OSError):
        os.unlink(beside)
