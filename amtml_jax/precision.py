"""Losses are computed in at least float32, whatever the networks use."""

import jax
import jax.numpy as jnp


def at_least_float32(*arrays: jax.Array) -> tuple[jax.Array, ...]:
  """Promotes bfloat16 and float16 to float32; float64 stays float64."""
  return tuple(
    a.astype(jnp.promote_types(a.dtype, jnp.float32)) for a in arrays
  )
