"""Every teacher alike (AvgMKD)."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtml_jax.types import ModelOutput


class Adapter(nn.Module):
  """w_t = 1/m for every instance.

  Attributes:
    num_teachers: m.
    ranking: not looked at; every adapter is built alike.
  """

  needs_labels: ClassVar[bool] = False

  num_teachers: int
  ranking: tuple[int, ...] = ()

  def __call__(
    self,
    student: ModelOutput,
    teachers: tuple[ModelOutput, ...],
    labels: jax.Array | None = None,
  ) -> jax.Array:
    """Returns the log-weights `(N, m)`."""
    del teachers, labels
    shape = (student.logits.shape[0], self.num_teachers)
    dtype = jnp.promote_types(student.logits.dtype, jnp.float32)
    return -jnp.log(jnp.full(shape, self.num_teachers, dtype))
