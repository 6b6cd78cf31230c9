"""Differences between rows that stay right where rows (nearly) coincide.

Confident networks make rows that are equal or differ by 1e-10. Distances come
from the differences themselves (a Gram matrix would cancel), the differences
are scaled before they are squared (squares underflow), and the gradient at
coinciding rows is the subgradient 0 (the root's own would be NaN).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from amtml_jax import precision

# Rows a `lengths` step: bounds the memory, amortises the loop.
_ROWS_A_STEP = 16


def unit(vectors: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Splits `(..., C)` vectors into direction `(..., C)` and length `(...)`.

  Both are 0, with gradient 0, for a vector whose largest entry is too small
  for the inverse of its length to be a number (about 1e-31 in float32).
  """
  info = jnp.finfo(vectors.dtype)
  # Neither result depends on the scale, so no gradient goes through it.
  scale = jax.lax.stop_gradient(
    jnp.max(jnp.abs(vectors), axis=-1, keepdims=True)
  )
  zero = scale <= info.tiny / info.eps
  scale = jnp.where(zero, 1, scale)
  scaled = jnp.where(zero, 1, vectors) / scale
  norm = jnp.sqrt(jnp.sum(scaled**2, axis=-1, keepdims=True))
  direction = jnp.where(zero, 0, scaled / norm)
  return direction, jnp.where(zero, 0, scale * norm)[..., 0]


def differences(points: jax.Array, rows: jax.Array) -> jax.Array:
  """Every row minus every point: `(B, C), (N, C) -> (B, N, C)`."""
  return rows[None, :, :] - points[:, None, :]


def lengths(points: jax.Array, rows: jax.Array) -> jax.Array:
  """Euclidean distances of points to rows: `(n, C), (N, C) -> (n, N)`.

  The difference vectors are computed again for the gradient, a few points at
  a time: nothing of size n×N×C lives.
  """

  def to_rows(point: jax.Array) -> jax.Array:
    return unit(rows - point[None, :])[1]

  return jax.lax.map(jax.checkpoint(to_rows), points, batch_size=_ROWS_A_STEP)


def soft_rows(logits: jax.Array, temperature: float, *, log: bool) -> jax.Array:
  """The student's rows to be compared: softmax(z/τ), or its logarithm.

  Args:
    logits: `(..., C)`; receives gradient. Computed in at least float32.
    temperature: τ.
    log: the logarithm instead of `probabilities`.
  """
  (logits,) = precision.at_least_float32(logits)
  if log:
    return jax.nn.log_softmax(logits / temperature, axis=-1)
  return probabilities(logits, temperature)


def probabilities(logits: jax.Array, temperature: float) -> jax.Array:
  """softmax(z/τ) whose gradient is right for nearly one-hot rows as well.

  The gradient with respect to nearly coinciding rows is as large as 1 over
  their distance, and the softmax's own p·(g - ⟨p, g⟩) then leaves rounding
  errors of that size. A constant added to g changes nothing, so the largest
  class is expressed by the others (p = 1 - Σ others), where nothing cancels.

  Args:
    logits: `(..., C)`.
    temperature: τ.

  Returns:
    `(..., C)`, summing to 1.
  """
  probs = jax.nn.softmax(logits / temperature, axis=-1)
  largest = jax.nn.one_hot(
    jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=bool
  )
  held = jax.lax.stop_gradient(probs)
  # Zero in value; only its gradient counts.
  moved = jnp.sum(jnp.where(largest, 0, probs - held), axis=-1, keepdims=True)
  return jnp.where(largest, held - moved, probs)
