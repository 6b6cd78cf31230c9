"""Images that stay in their files until they are asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import NoReturn

import numpy as np

from amtml_jax.data import checked
from amtml_jax.errors import Stop, UserError
from amtml_jax.types import Dataset, Examples

# How many threads read at once; a batch in each is held in memory.
THREADS = min(8, os.cpu_count() or 1)


@contextlib.contextmanager
def own_errors(where: str) -> Iterator[None]:
  """Tells in a sentence what a user's own data source raises."""
  try:
    yield
  except Stop:
    raise
  except Exception as error:
    reason = " ".join(str(error).split())[:300]
    raise UserError(
      f"{where} cannot be read: {type(error).__name__}: {reason}; mend the "
      "data, or its source"
    ) from error


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
  """What one pass over a whole split finds out (`index.of`).

  Attributes:
    label: `(N,)` int32.
    moments: `(N, 2, channels)` int64, as `splits.moments` gives.
    fingerprint: what `splits.fingerprint` says of the same data in memory.
  """

  label: np.ndarray
  moments: np.ndarray
  fingerprint: str


class Pictures:
  """Some rows of `Examples` in the place of `Dataset.image`.

  `pictures[rows]` reads an array `(n, H, W, channels)` uint8, from any thread.

  Attributes:
    shape: `(N, H, W, channels)`.
    dtype: uint8.
  """

  dtype = np.dtype(np.uint8)

  def __init__(
    self, examples: Examples, index: Index, rows: np.ndarray | None = None
  ):
    """`rows` are those of the examples that it shows; None: all."""
    self._examples, self._index, self._whole = examples, index, rows is None
    self._rows = np.arange(len(examples)) if rows is None else rows
    self.shape = (len(self._rows), *map(int, examples.shape))

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, key: np.ndarray | slice) -> np.ndarray:
    rows = self._rows[key]
    if rows.ndim != 1:
      raise IndexError("pictures are read by a slice or by (n,) rows")
    if not len(rows):
      return np.empty((0, *self.shape[1:]), np.uint8)
    data = read(self._examples, rows)
    if not np.array_equal(data.label, self._index.label[rows]):
      raise UserError(
        f"{name(self._examples)} is not what it was when it was indexed; see "
        "that nothing writes to it, and delete ~/.cache/amtml_jax/index"
      )
    return data.image

  def __array__(self, *args: object, **kwargs: object) -> NoReturn:
    raise TypeError("these pictures do not fit in memory; read some rows")

  def take(self, rows: np.ndarray) -> Pictures:
    """The same pictures, fewer of them; reads nothing."""
    return Pictures(self._examples, self._index, self._rows[rows])

  def moments(self, rows: np.ndarray) -> np.ndarray:
    """`splits.moments` of some rows, `(n, 2, channels)`; reads nothing."""
    return self._index.moments[self._rows[rows]]

  @property
  def fingerprint(self) -> str:
    """Of the whole split; its parts have none."""
    if not self._whole:
      raise ValueError("a part of a split has no fingerprint")
    return self._index.fingerprint


def name(examples: Examples) -> str:
  """What a message calls them."""
  return getattr(examples, "where", "") or type(examples).__module__


def read(examples: Examples, rows: np.ndarray) -> Dataset:
  """Some rows, at least one, checked as a whole split in memory is."""
  where = name(examples)
  with own_errors(where):
    image, label = examples.read(rows)
  data = checked.dataset(image, label, examples.classes, where=where)
  if data.image.shape != (len(rows), *examples.shape):
    raise UserError(
      f"{where}: {len(rows)} images of {tuple(examples.shape)} were asked for, "
      f"and came as {data.image.shape}; mend its read"
    )
  return data
