"""Pooling against hand-made windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax import pooling


def column(*values):
  """An NHWC map of one column and one channel."""
  return jnp.asarray(values, jnp.float32)[None, :, None, None]


@pytest.mark.parametrize(
  ("values", "size", "expected"),
  [
    ((1, 3, 5, 9), 2, (2, 7)),
    # Windows [0, 2) and [1, 3) share the middle row.
    ((1, 3, 8), 2, (2, 5.5)),
    # [0, 3), [2, 5), [4, 7).
    ((0, 3, 6, 9, 12, 15, 21), 3, (3, 9, 16)),
    # Upwards: [0, 1), [0, 2), [1, 2).
    ((2, 6), 3, (2, 4, 6)),
    ((1, 2, 6), 1, (3,)),
  ],
)
def test_windows_as_in_pytorch(values, size, expected):
  pooled = pooling.adaptive_average(column(*values), size, 1)
  np.testing.assert_allclose(pooled[0, :, 0, 0], expected, rtol=1e-6)


def test_height_and_width_are_not_mixed_up():
  image = jnp.arange(24.0).reshape(1, 4, 3, 2)
  pooled = pooling.adaptive_average(image, 2, 1)
  # Rows 0-1 of channel 0 are 0, 2, 4, 6, 8, 10; rows 2-3 are 12 more.
  np.testing.assert_allclose(
    pooled[0, :, 0], [[5.0, 6.0], [17.0, 18.0]], rtol=1e-6
  )


def test_gradient_spreads_over_the_window():
  gradient = jax.grad(lambda x: pooling.adaptive_average(x, 2, 1)[0, 0, 0, 0])
  np.testing.assert_allclose(
    gradient(column(1, 3, 8))[0, :, 0, 0], [0.5, 0.5, 0.0], rtol=1e-6
  )


def test_common_size_takes_the_smaller_of_each_axis():
  tall, wide = jnp.ones((2, 8, 3, 4)), jnp.ones((2, 5, 7, 6))
  a, b = pooling.common_size(tall, wide)
  assert (a.shape, b.shape) == ((2, 5, 3, 4), (2, 5, 3, 6))
  np.testing.assert_allclose(a, 1.0, rtol=1e-6)


def test_what_is_no_map_is_refused():
  with pytest.raises(ValueError, match=r"\(N, H, W, channels\)"):
    pooling.adaptive_average(jnp.ones((2, 3)), 1, 1)
  with pytest.raises(ValueError, match="0 by 1"):
    pooling.adaptive_average(jnp.ones((1, 2, 2, 1)), 0, 1)
