"""The one check that every source's finished data set goes through."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amtml_jax.errors import UserError
from amtml_jax.types import Dataset


def dataset(
  image: np.ndarray, label: np.ndarray, classes: Sequence[str], *, where: str
) -> Dataset:
  """A data set whose arrays are what `types.Dataset` promises.

  Args:
    image: `(N, H, W)` or `(N, H, W, channels)` uint8.
    label: `(N,)`, any integers in `[0, len(classes))`.
    classes: the classes' names, in the order of their labels.
    where: the file or set that a message names.

  Raises:
    UserError: what is wrong with the arrays, in one sentence.
  """
  if image.dtype != np.uint8:
    raise UserError(
      f"{where}: images are {image.dtype}; save them as uint8 from 0 to 255"
    )
  if image.ndim == 3:
    image = image[..., None]
  if image.ndim != 4:
    raise UserError(
      f"{where}: images have the shape {image.shape}; save them as (N, H, W) "
      "or (N, H, W, channels)"
    )
  if label.ndim != 1 or label.dtype.kind not in "iu":
    raise UserError(
      f"{where}: labels are {label.dtype} of the shape {label.shape}; save "
      "them as (N,) integers"
    )
  if len(image) != len(label):
    raise UserError(
      f"{where}: {len(image)} images but {len(label)} labels; they must be "
      "of one split and in the same order"
    )
  if not image.size:
    raise UserError(
      f"{where}: images have the shape {image.shape}, so there is nothing to "
      "learn from; save at least one image"
    )
  if len(set(classes)) != len(classes) or len(classes) < 2:
    raise UserError(
      f"{where}: {len(classes)} class names, {len(set(classes))} different; "
      "give two or more, each once"
    )
  low, high = int(label.min()), int(label.max())
  if low < 0 or high >= len(classes):
    raise UserError(
      f"{where}: labels run from {low} to {high}, but there are "
      f"{len(classes)} classes; number them from 0 to {len(classes) - 1}"
    )
  return Dataset(
    image=np.ascontiguousarray(image),
    label=label.astype(np.int32),
    classes=tuple(str(name) for name in classes),
  )


def split(name: str) -> str:
  """`name`, when it is a split that every source has."""
  if name not in ("train", "test"):
    raise UserError(f"there is no split {name!r}; known: train, test")
  return name


def numbers(label: np.ndarray) -> tuple[str, ...]:
  """The names of unnamed classes: "0" to the largest label."""
  if label.size and label.dtype.kind in "iu":
    # A stray label of 4 billion must not become a list of as many names.
    return tuple(map(str, range(min(int(label.max()), 65_535) + 1)))
  return ("0", "1")  # what is wrong with such labels, `dataset` says
