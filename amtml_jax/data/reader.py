"""Batches read ahead by Grain, for data that does not fit in memory.

An item of the Grain data set is a whole batch, and its number is the global
step: where a run stands says what comes next, on any number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from amtml_jax.data import pipeline
from amtml_jax.data.pictures import THREADS
from amtml_jax.types import Dataset

WHOLE = slice(None)


class Reader(Iterator[tuple]):
  """Items `first` to `last`, read ahead by threads; close it after use.

  `with batches(...) as reader: for rows, image, label, epoch in reader: ...`
  An error in a thread, such as a damaged file's UserError, comes out of the
  iterator in the place of its batch, and closes it.
  """

  def __init__(
    self,
    item: Callable[[int], tuple],
    first: int,
    last: int,
    threads: int,
    prefetch: int,
  ):
    # Late: it takes more than a second, and in-memory runs do not need it.
    import grain
    from grain.experimental import set_next_index

    options = grain.ReadOptions(
      num_threads=threads, prefetch_buffer_size=prefetch
    )
    items = grain.MapDataset.source(_Items(item, last))
    self._iterator = iter(items.to_iter_dataset(options))
    set_next_index(self._iterator, first)
    self._iterator.start_prefetch()

  def __next__(self) -> tuple:
    try:
      return next(self._iterator)
    except StopIteration:
      self._end_threads()
      raise
    except BaseException:  # Ctrl-C too
      self.close()
      raise

  def close(self) -> None:
    """Ends the threads; waits for the reads that are under way."""
    self._iterator.close()
    self._end_threads()

  def _end_threads(self) -> None:
    # Grain lets them run out by themselves; nobody may read any more.
    executor = getattr(self._iterator, "_executor", None)
    if executor is not None:
      executor.shutdown(wait=True)

  def __enter__(self) -> Reader:
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()


class _Items:
  """What Grain calls a random-access source."""

  def __init__(self, item: Callable[[int], tuple], size: int):
    self._item, self._size = item, size

  def __len__(self) -> int:
    return self._size

  def __getitem__(self, number: int) -> tuple:
    return self._item(number)


def batches(
  data: Dataset,
  *,
  seed: int,
  batch: int,
  first: int,
  last: int,
  part: slice = WHOLE,
  threads: int = THREADS,
  prefetch: int = THREADS + 2,
  read: Callable[[np.ndarray, int], tuple] | None = None,
) -> Reader:
  """Training batches of the global steps `first` to `last`, exclusive.

  The rows are those that a run with the data on its devices draws. In memory
  are at most `prefetch + 1` batches beside the one that was handed out last.

  Args:
    data: the training split, resident or not.
    seed: of the order.
    batch: rows of the global batch.
    first: step.
    last: step, exclusive.
    part: of every global batch, this process's own.
    threads: that read; 0: reads when asked.
    prefetch: batches that are read ahead; 0: none.
    read: what of (rows, epoch); None: rows, images and labels.

  Returns:
    An iterator of `(rows (n,) int32, image (n, H, W, channels) uint8, label
    (n,) int32, epoch)`, or of `(*read(rows, epoch), epoch)`.
  """
  size = len(data.label)
  # Says at once, not in a thread, what is wrong with the batch.
  pipeline.rows_of(first, seed=seed, size=size, batch=batch)

  def item(step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    rows, epoch = pipeline.rows_of(step, seed=seed, size=size, batch=batch)
    own = rows[part]
    if read is not None:
      return *read(own, epoch), epoch
    return own, data.image[own], data.label[own], epoch

  return Reader(item, first, last, threads, prefetch)


def in_order(
  data: Dataset,
  *,
  batch: int,
  part: slice = WHOLE,
  threads: int = THREADS,
  prefetch: int = THREADS + 2,
) -> Reader:
  """Every row once, in order, for evaluation.

  The last batch is filled up with row 0, as `pipeline.padded` does.

  Args:
    data: a split, resident or not.
    batch: rows of the global batch.
    part: of every global batch, this process's own.
    threads: that read; 0: reads when asked.
    prefetch: batches that are read ahead; 0: none.

  Returns:
    An iterator of `(rows (n,) int32, mask (n,) float32, image (n, H, W,
    channels) uint8, label (n,) int32)`.
  """
  size = len(data.label)

  def item(number: int) -> tuple[np.ndarray, ...]:
    rows = np.arange(number * batch, min((number + 1) * batch, size))
    rows, mask = pipeline.padded(rows, batch)
    own = rows[part]
    return own, mask[part], data.image[own], data.label[own]

  return Reader(item, 0, -(-size // batch), threads, prefetch)
