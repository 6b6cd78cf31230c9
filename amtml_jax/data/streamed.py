"""Whether a split is held in memory or read where it lies."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import numpy as np

from amtml_jax import plugins
from amtml_jax.data import checked, index, pictures
from amtml_jax.data.pictures import Pictures
from amtml_jax.types import Dataset, Examples


def _silent(text: str) -> None:
  del text


def opened(
  source: str,
  split: str,
  *,
  folder: str = "",
  name: str = "",
  image_size: int = 0,
  resident_mb: int = 0,
  say: Callable[[str], None] = _silent,
) -> Dataset:
  """A split of a data source, streamed where it is large and can be.

  Args:
    source: a data source's name, or the path of a user's module.
    split: "train" or "test".
    folder: for the source, as `image_size` and `name`.
    name: of the set.
    image_size: for the source.
    resident_mb: a split of more megabytes of pixels streams if the source has
      `examples`; 0: every one.
    say: is told how far the pass over such a split is.
  """
  users = "." in source
  with pictures.own_errors(source) if users else contextlib.nullcontext():
    return _opened(source, split, folder, name, image_size, resident_mb, say)


def _opened(
  source: str,
  split: str,
  folder: str,
  name: str,
  image_size: int,
  resident_mb: int,
  say: Callable[[str], None],
) -> Dataset:
  load = plugins.find("data", source)
  chosen = {"folder": folder, "name": name, "image_size": image_size}
  examples = getattr(plugins.module("data", source), "examples", None)
  if examples is not None:
    found = examples(split, **chosen)
    if streams(found, resident_mb):
      return dataset(found, say=say)
  return load(split, **chosen)


def streams(examples: Examples, megabytes: int) -> bool:
  """Whether the split's pixels are more than so many megabytes (2^20)."""
  return len(examples) * math.prod(examples.shape) > megabytes << 20


def dataset(
  examples: Examples, *, say: Callable[[str], None] = _silent
) -> Dataset:
  """The split, its images left where they are; reads all of it once."""
  _check_any(examples)
  found = index.of(examples, say=say)
  classes = tuple(map(str, examples.classes))
  return Dataset(Pictures(examples, found), found.label, classes)


def collected(examples: Examples) -> Dataset:
  """The split in memory: what a source that has `examples` needs as `load`."""
  _check_any(examples)
  image = np.empty((len(examples), *examples.shape), np.uint8)
  label = np.empty(len(examples), np.int32)

  def work(rows):
    here = slice(rows[0], rows[-1] + 1)
    data = pictures.read(examples, rows)
    image[here], label[here] = data.image, data.label

  for _ in index.by_chunks(examples, work):
    pass
  return Dataset(image, label, tuple(map(str, examples.classes)))


def _check_any(examples: Examples) -> None:
  """Says what `checked.dataset` says of a split without a single pixel."""
  if not len(examples) or 0 in examples.shape:
    empty = np.empty((len(examples), *examples.shape), np.uint8)
    label = np.zeros(len(examples), np.int32)
    where = pictures.name(examples)
    checked.dataset(empty, label, examples.classes, where=where)
