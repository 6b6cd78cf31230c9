"""Pooling of feature maps: to half, to another's size, to one number."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def halved(x: jax.Array, pool: Callable[..., jax.Array]) -> jax.Array:
  """2×2 pooling that stops at one pixel: (N, ⌊H/2⌋ or 1, ⌊W/2⌋ or 1, C).

  Args:
    x: `(N, H, W, C)`.
    pool: `nn.max_pool` or `nn.avg_pool`.
  """
  window = tuple(min(2, size) for size in x.shape[1:3])
  return pool(x, window, strides=window)


def windows(size: int, out: int) -> np.ndarray:
  """The `(out, size)` matrix whose row i averages window i of a line.

  Window i is `[floor(i·size/out), ceil((i+1)·size/out))`, as in PyTorch's
  `adaptive_avg_pool`: windows overlap where `out` does not divide `size`.
  """
  place = np.arange(out)[:, None]
  start = place * size // out
  end = -(-(place + 1) * size // out)
  column = np.arange(size)[None, :]
  return ((column >= start) & (column < end)) / (end - start)


def adaptive_average(feature_map: jax.Array, height: int, width: int):
  """Averages a map to a given height and width, whatever the ratio.

  Two small matrix products instead of a window a cell: windows of unequal
  length need no loop, and the gradient is a product too.

  Args:
    feature_map: `(N, H, W, channels)`.
    height: the rows of the result, at least 1.
    width: its columns, at least 1.

  Returns:
    `(N, height, width, channels)`, in the map's own dtype; the map itself
    where the size is already right. Differentiable.

  Raises:
    ValueError: if the map is not NHWC or a size is below 1.
  """
  if feature_map.ndim != 4:
    raise ValueError(
      f"a feature map is (N, H, W, channels), not {feature_map.shape}."
    )
  if min(height, width) < 1:
    raise ValueError(f"a map cannot be pooled to {height} by {width}.")
  for axis, out, product in (
    (1, height, "oh,nhwc->nowc"),
    (2, width, "ow,nhwc->nhoc"),
  ):
    size = feature_map.shape[axis]
    if size != out:
      matrix = jnp.asarray(windows(size, out), feature_map.dtype)
      feature_map = jnp.einsum(
        product, matrix, feature_map, precision="highest"
      )
  return feature_map


def largest(feature_map: jax.Array) -> jax.Array:
  """The largest activation of every channel, `(N, H, W, d) -> (N, d)`.

  The gradient of `jnp.max` compares the map with its maximum and divides by
  how many are equal. XLA may compute the map twice, with other rounding: then
  none is, and 0 / 0 is NaN. Here the first of equal pixels gets the gradient.
  """
  rows, _, _, width = feature_map.shape
  pixels = feature_map.reshape(rows, -1, width)
  place = jnp.argmax(pixels, axis=1, keepdims=True)
  return jnp.take_along_axis(pixels, place, axis=1)[:, 0]


def common_size(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Brings two NHWC maps to the smaller height and the smaller width."""
  height, width = (min(a.shape[i], b.shape[i]) for i in (1, 2))
  return (
    adaptive_average(a, height, width),
    adaptive_average(b, height, width),
  )
