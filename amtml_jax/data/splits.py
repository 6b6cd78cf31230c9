"""Which images train, which validate, which test; and how they are normalised.

Every class's rows are put in one seeded order: the first are held out for
validation, the next are kept for training. So a smaller `labels_per_class` is
a subset of a larger one, and neither moves the validation images.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from amtml_jax.data.pictures import Pictures
from amtml_jax.errors import UserError
from amtml_jax.types import Dataset

# One grey level: images that vary less are constant, and dividing by their
# standard deviation would only make numbers huge.
STD_FLOOR = 1 / 255
# Keeps these draws away from the shuffling of epochs (pipeline.order).
COUNTER = 1 << 192


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
  """A data set as a run sees it.

  Attributes:
    train: what the student learns from.
    validation: the held-out share of training; empty when the share is 0.
    mean: per channel in units of [0, 1], over the training split without
      validation, before `labels_per_class` and `train_size` thin it: teachers
      that saw all of it and a student that sees little agree.
    std: the same; at least `STD_FLOOR`.
    fingerprint: SHA-256 of the whole training data, before it is split or
      thinned: the same for teachers that see all and a student that does not.
    load_test: reads the test split.
  """

  train: Dataset
  validation: Dataset
  mean: tuple[float, ...]
  std: tuple[float, ...]
  fingerprint: str
  load_test: Callable[[], Dataset]

  @functools.cached_property
  def test(self) -> Dataset:
    """The test split, read when it is first asked for: once, at the end."""
    test = self.load_test()
    if test.classes != self.train.classes:
      raise UserError(
        f"the training split has the classes {_some(self.train.classes)}, the "
        f"test split {_some(test.classes)}; they must be the same"
      )
    if test.image.shape[1:] != self.train.image.shape[1:]:
      raise UserError(
        f"training images are {self.train.image.shape[1:]}, test images "
        f"{test.image.shape[1:]}; bring them to one size (for tfds: "
        "--config.data.image_size)"
      )
    return test


def make(
  load: Callable[[str], Dataset],
  *,
  validation: float = 0.1,
  seed: int = 0,
  labels_per_class: int = 0,
  train_size: int = 0,
) -> Splits:
  """Splits what `load("train")` gives; `load("test")` waits until it is used.

  Args:
    load: a source's `load` with its keywords bound.
    validation: the share of every class that is held out, rounded half up; at
      least 1 image of a class that has 2, and never the last one.
    seed: of the choice of rows.
    labels_per_class: keep just so many training images a class; 0 keeps all.
    train_size: keep so many training images, in the classes' proportions
      (largest remainder, at least 1 a class); 0 keeps all.

  Raises:
    UserError: for numbers that the data cannot satisfy.
  """
  if not 0 <= validation < 1:
    raise UserError(f"validation must be in [0, 1), not {validation}")
  if labels_per_class < 0 or train_size < 0:
    raise UserError("labels_per_class and train_size must not be negative")
  if labels_per_class and train_size:
    raise UserError("set labels_per_class or train_size, not both")
  whole = load("train")
  groups = by_class(whole.label, len(whole.classes), seed=seed)
  for name, group in zip(whole.classes, groups, strict=True):
    if not len(group):
      raise UserError(f"no training image is of the class {name!r}; drop it")
  held = [share(len(group), validation) for group in groups]
  rest = [group[n:] for group, n in zip(groups, held, strict=True)]
  sizes = np.array([len(group) for group in rest])
  kept = sizes
  if labels_per_class:
    least = int(sizes.argmin())
    if labels_per_class > sizes[least]:
      raise UserError(
        f"labels_per_class is {labels_per_class}, but after validation the "
        f"class {whole.classes[least]!r} has {sizes[least]} training images"
      )
    kept = np.full(len(rest), labels_per_class)
  if train_size:
    if not len(rest) <= train_size <= sizes.sum():
      raise UserError(
        f"train_size is {train_size}; it can be from {len(rest)} (one a "
        f"class) to {sizes.sum()} (what validation leaves)"
      )
    kept = proportions(sizes, train_size)
  mean, std = statistics(whole.image, np.sort(np.concatenate(rest)))
  return Splits(
    train=_take(whole, [g[:n] for g, n in zip(rest, kept, strict=True)]),
    validation=_take(whole, [g[:n] for g, n in zip(groups, held, strict=True)]),
    mean=mean,
    std=std,
    fingerprint=fingerprint(whole),
    load_test=functools.partial(load, "test"),
  )


def fingerprint(data: Dataset) -> str:
  """SHA-256 over the classes' names, images and labels.

  Of images that are not resident their index knows it.
  """
  if not data.resident:
    return data.image.fingerprint
  digest = digest_of(data.image.shape, data.classes)
  digest.update(np.ascontiguousarray(data.image))
  digest.update(data.label.astype("<i4"))
  return digest.hexdigest()


def digest_of(shape: tuple[int, ...], classes: tuple[str, ...]) -> Any:
  """The hash that images, then labels, are put into."""
  return hashlib.sha256(repr((shape, classes)).encode())


def by_class(label: np.ndarray, classes: int, *, seed: int) -> list[np.ndarray]:
  """Every class's rows in a seeded order, the same on every machine."""
  groups = []
  for c in range(classes):
    rows = np.flatnonzero(label == c)
    # Raw words of a bit generator are stable across NumPy's versions, which
    # `Generator.permutation` does not promise.
    key = np.array([seed & (2**64 - 1), c], np.uint64)
    words = np.random.Philox(key=key, counter=COUNTER).random_raw(len(rows))
    groups.append(rows[np.argsort(words, kind="stable")])
  return groups


def share(size: int, fraction: float) -> int:
  """How many of a class's `size` images are held out."""
  if not fraction or size < 2:
    return 0
  return int(np.clip(np.floor(size * fraction + 0.5), 1, size - 1))


def proportions(sizes: np.ndarray, total: int) -> np.ndarray:
  """`total` shared out in proportion to `sizes`, at least 1 each."""
  exact = sizes * (total / sizes.sum())
  counts = np.maximum(np.floor(exact).astype(int), 1)
  while counts.sum() < total:
    counts[np.argmax(np.where(counts < sizes, exact - counts, -np.inf))] += 1
  while counts.sum() > total:
    counts[np.argmin(np.where(counts > 1, exact - counts, np.inf))] -= 1
  return counts


def statistics(
  image: np.ndarray | Pictures, rows: np.ndarray
) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Mean and standard deviation a channel of some rows, at least `STD_FLOOR`.

  The sums are integers, and each result is rounded once: the order of the
  images, and whether they are resident, leave no trace.
  """
  if isinstance(image, np.ndarray):
    parts = np.array_split(rows, -(-len(rows) // 1024))
    total = sum(moments(image[part]).sum(0) for part in parts)
  else:
    total = image.moments(rows).sum(0)
  size = len(rows) * image.shape[1] * image.shape[2]
  mean, std = [], []
  for s, q in zip(*total.tolist(), strict=True):
    mean.append(s / (255 * size))
    # (Q - S²/n) / (n 255²), as one fraction of Python's integers.
    variance = (size * q - s * s) / (255 * size) ** 2
    std.append(max(math.sqrt(variance), STD_FLOOR))
  return tuple(mean), tuple(std)


def moments(image: np.ndarray) -> np.ndarray:
  """Every image's sums of values and of squares a channel, exact.

  Args:
    image: `(N, H, W, channels)` uint8.

  Returns:
    `(N, 2, channels)` int64.
  """
  n, channels = len(image), image.shape[-1]
  # Sums along consecutive bytes: several times as fast as across channels.
  planes = np.moveaxis(image.reshape(n, -1, channels), 2, 1)
  planes = np.ascontiguousarray(planes)
  squares = np.einsum(
    "ncp,ncp->nc", planes, planes, dtype=np.int64, casting="unsafe"
  )
  return np.stack([planes.sum(2, dtype=np.int64), squares], axis=1)


def _take(whole: Dataset, groups: list[np.ndarray]) -> Dataset:
  rows = np.sort(np.concatenate(groups))
  image = whole.image[rows] if whole.resident else whole.image.take(rows)
  return Dataset(image, whole.label[rows], whole.classes)


def _some(names: tuple[str, ...]) -> str:
  return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
