"""The one place that knows about devices.

Everything else is written for one replica with an optional axis of replicas:
`axis` is its name where the code is lifted by pmap, and None where there is
one replica, or where plain jit over sharded arrays keeps the single-device
meaning by itself.
"""

from __future__ import annotations

import jax


def all_sum(x: jax.Array, axis: str | None) -> jax.Array:
  """The sum over the replicas; `x` itself where there is one."""
  return x if axis is None else jax.lax.psum(x, axis)


def all_rows(x: jax.Array, axis: str | None) -> jax.Array:
  """Every replica's rows, `(n, ...) -> (D·n, ...)`, in the replicas' order.

  Differentiable: a row's cotangent is the sum over all replicas.
  """
  return x if axis is None else jax.lax.all_gather(x, axis, tiled=True)


def first_row(rows: int, axis: str | None) -> jax.Array | int:
  """The place of this replica's first row among `all_rows`."""
  return 0 if axis is None else jax.lax.axis_index(axis) * rows
