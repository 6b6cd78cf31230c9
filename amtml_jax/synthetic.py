"""Random images, and random weights under which deep networks stay finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from amtml_jax.data import splits
from amtml_jax.types import Dataset


def images(shape: Sequence[int], classes: int, size: int) -> splits.Splits:
  """A random data set whose training split has `size` images or more."""
  # The share that is held out is rounded, class by class.
  whole = math.ceil(size / 0.9) + 2 * classes
  rng = np.random.default_rng(0)
  data = Dataset(
    rng.integers(0, 256, (whole, *shape), np.uint8),
    np.arange(whole, dtype=np.int32) % classes,
    tuple(map(str, range(classes))),
  )
  return splits.make(lambda split: data, validation=0.1)


def weights(like: Any) -> Any:
  """Random weights of some shapes, under which a deep network stays finite.

  With running statistics that nobody measured, He's would double the variance
  in each of a ResNet-110's blocks.
  """
  rng = np.random.default_rng(0)

  def leaf(path: Any, x: Any) -> np.ndarray:
    if len(x.shape) > 1:
      fan = np.prod(x.shape) / x.shape[-2]
      made = rng.normal(scale=0.5 * (2 / fan) ** 0.5, size=x.shape)
    else:
      made = np.full(x.shape, path[-1].key in ("scale", "var"))
    return made.astype(x.dtype)

  return jax.tree_util.tree_map_with_path(leaf, like)
