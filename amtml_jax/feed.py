"""What the compiled functions are fed: rows of a set on the devices, or images.

A resident split lies on every device once, and a step is told its rows. One
that does not fit is read while the device works, and a step gets its images.
The pictures are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from amtml_jax import config
from amtml_jax.data import pipeline, reader
from amtml_jax.parallel import Replicas
from amtml_jax.types import Batch, Dataset
from amtml_jax.views import Taught

# What every replica has whole, and what it has its own rows of.
Shared = tuple[Any, ...]
Fed = tuple[Any, ...]


def drawn(shared: Shared, fed: Fed, **augment: Any) -> Batch:
  """The augmented batch of one replica; see `pipeline.draw`."""
  if shared:
    (rows,) = fed
    return pipeline.draw(*shared, rows, **augment)
  rows, image, label = fed
  return pipeline.draw(image, label, None, example=rows, **augment)


def plain(shared: Shared, fed: Fed) -> Batch:
  """The batch of one replica as it lies, with the mask of its padding."""
  if shared:
    rows, mask = fed
    return Batch(shared[0][rows], shared[1][rows], rows, mask)
  rows, mask, image, label = fed
  return Batch(image, label, rows, mask)


def shared(split: Dataset, replicas: Replicas) -> Shared:
  """What of a split every device has: all of it, or nothing."""
  if not split.resident:
    return ()
  return replicas.place((split.image, split.label))


def steps_per_dispatch(asked: int, epoch: int) -> int:
  """How many steps one dispatch runs.

  On a CPU one: XLA runs a convolution inside a loop on one core without its
  fast kernels (15 times slower here), and a CPU has no dispatch to hide.

  Args:
    asked: by the config; 0 chooses by the backend.
    epoch: steps of an epoch, which bound a dispatch.
  """
  if asked:
    return min(asked, epoch)
  return 1 if jax.default_backend() == "cpu" else min(50, epoch)


class Feed:
  """The training batches of a run, from any step on.

  Attributes:
    shared: what lies on every device: of the images, and of what the teachers
      said of them.
    limit: the most steps one dispatch runs.
  """

  def __init__(
    self,
    run: config.Run,
    train: Dataset,
    replicas: Replicas,
    taught: Taught | None = None,
  ):
    self._run, self._train, self._replicas = run, train, replicas
    self._taught = taught
    read = not (train.resident and (taught is None or taught.resident))
    # Students of several seeds see other rows each, read as they are needed.
    self._ahead = read and run.seeds == 1
    self._seed = run.seed if run.seeds == 1 else run.students
    self._steps = run.epochs * (len(train.label) // run.batch_size)
    self._part = replicas.part(run.batch_size)
    self._reader: Any = None
    self.shared = (shared(train, replicas), taught.shared if taught else ())
    # What is read waits in host memory for its dispatch: just one step's.
    asked = run.steps_per_dispatch or (1 if read else 0)
    epoch = len(train.label) // run.batch_size
    self.limit = steps_per_dispatch(asked, epoch)

  def next(self, first: int, count: int) -> tuple[Fed, np.ndarray]:
    """What `count` steps from `first` on are fed, and the epoch of each.

    Both are padded to the limit, so that every dispatch has the same shapes.
    What is not on the devices is read in order from the first step that is
    asked for.
    """
    *steps, last = [self._step(first + i) for i in range(count)]
    steps += [last] * (1 + self.limit - count)

    def fed(*arrays: np.ndarray) -> Any:
      stacked = arrays[0][None] if self.limit == 1 else np.stack(arrays)
      return self._replicas.shard(stacked, axis=1)

    epochs = np.asarray([epoch for *_, epoch in steps], np.int32)
    return jax.tree.map(fed, *[(own, said) for own, said, _ in steps]), epochs

  def _step(self, step: int) -> tuple[Any, ...]:
    """What this process feeds a step, of images and teachers; its epoch.

    Several students' rows are `(n, K)`, and so is what comes with them.
    """
    where = dict(seed=self._seed, batch=self._run.batch_size)
    if not self._ahead:
      size = len(self._train.label)
      rows, epoch = pipeline.rows_of(step, size=size, **where)
      return *self._read(rows[self._part], epoch), epoch
    if self._reader is None:
      where |= dict(first=step, last=self._steps, part=self._part)
      self._reader = reader.batches(self._train, read=self._read, **where)
    return next(self._reader)

  def _read(self, rows: np.ndarray, epoch: int) -> tuple[Fed, Fed]:
    taught = self._taught.rows(rows, epoch) if self._taught else ()
    if self._train.resident:
      return (rows,), taught
    image = self._train.image[rows.reshape(-1)]
    image = image.reshape(*rows.shape, *image.shape[1:])
    return (rows, image, self._train.label[rows]), taught

  def close(self) -> None:
    """Ends the reading."""
    if self._reader is not None:
      self._reader.close()
      self._reader = None


def in_order(split: Dataset, batch: int, replicas: Replicas) -> Iterator[Fed]:
  """Every row of a split once, in batches; the last one padded, mask 0.

  Args:
    split: resident, or streamed.
    batch: global.
    replicas: that share a batch.
  """
  part, size = replicas.part(batch), len(split.label)
  if not split.resident:
    for fed in reader.in_order(split, batch=batch, part=part):
      yield tuple(map(replicas.shard, fed))
    return
  for first in range(0, size, batch):
    rows = np.arange(first, min(first + batch, size))
    rows, mask = pipeline.padded(rows, batch)
    yield replicas.shard(rows[part]), replicas.shard(mask[part])
