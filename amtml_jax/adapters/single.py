"""One teacher alone (OKD, FitNet, AT, RKD)."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtml_jax.errors import UserError
from amtml_jax.types import ModelOutput


class Adapter(nn.Module):
  """All the weight on one teacher, by default the best.

  Attributes:
    num_teachers: m.
    ranking: the teachers' indices, best held-out accuracy first.
    index: the teacher to listen to instead of the best.
  """

  needs_labels: ClassVar[bool] = False

  num_teachers: int
  ranking: tuple[int, ...] = ()
  index: int | None = None

  @property
  def only_teacher(self) -> int:
    """The teacher's index.

    Raises:
      UserError: there is no such teacher.
    """
    index = self.index
    if index is None:
      index = self.ranking[0] if self.ranking else 0
    if not 0 <= index < self.num_teachers:
      raise UserError(
        f"adapter.index is {index}, but there are {self.num_teachers} "
        f"teachers; use 0 to {self.num_teachers - 1}"
      )
    return index

  def __call__(
    self,
    student: ModelOutput,
    teachers: tuple[ModelOutput, ...],
    labels: jax.Array | None = None,
  ) -> jax.Array:
    """Returns the log-weights `(N, m)`: 0 for the one, -inf for the others."""
    del teachers, labels
    dtype = jnp.promote_types(student.logits.dtype, jnp.float32)
    row = jnp.full((self.num_teachers,), -jnp.inf, dtype)
    row = row.at[self.only_teacher].set(0)
    rows = student.logits.shape[0]
    return jnp.broadcast_to(row[None, :], (rows, self.num_teachers))
