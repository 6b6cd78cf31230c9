"""The gate on the teachers' log-probabilities, and on nothing else."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtml_jax import gating, precision
from amtml_jax.types import ModelOutput

FLOOR = -12.0  # below 6e-6, how little a teacher believes says no more
MIDDLE, SPREAD = FLOOR / 2, 3.0  # so that the inputs are of about unit size


def evidence(teacher_logits: jax.Array) -> jax.Array:
  """What this gate looks at: every teacher's log-probabilities.

  x_i = ((l_1,i, ..., l_m,i) - MIDDLE) / SPREAD,
  l_t,i = max(log softmax(z_t,i), FLOOR), so -2 ≤ x ≤ 2.

  Probabilities of 0.001 and of 0.00001 look alike to a net; whether a teacher
  has ever seen a class, and so whom to believe, lies in that difference. About
  0 because inputs that are all negative push all of a unit's weights one way:
  one large step and it is dead.

  Args:
    teacher_logits: `(m, N, C)`; receives no gradient.

  Returns:
    `(N, m·C)`, in at least float32.
  """
  (logits,) = precision.at_least_float32(jax.lax.stop_gradient(teacher_logits))
  said = jnp.maximum(jax.nn.log_softmax(logits, axis=-1), FLOOR)
  said = jnp.moveaxis((said - MIDDLE) / SPREAD, 0, 1)
  return said.reshape(len(said), -1)


class Adapter(nn.Module):
  """w_i = softmax(W₂ relu(W₁ x_i + b₁) + b₂), x = `evidence`.

  Not in the paper: the gate without the student's features, which change while
  it learns, and give it more to take its few training images by heart with.
  Made to be trained by the term `mixture`; gradient reaches its four parameters
  and nothing else.

  Attributes:
    num_teachers: m.
    ranking: not looked at; every adapter is built alike.
    hidden: the units of the hidden layer.
    init_scale: of W₂ at the start (gating.py).
  """

  needs_labels: ClassVar[bool] = False

  num_teachers: int
  ranking: tuple[int, ...] = ()
  hidden: int = 32
  init_scale: float = 0.1

  @nn.compact
  def __call__(
    self,
    student: ModelOutput,
    teachers: tuple[ModelOutput, ...],
    labels: jax.Array | None = None,
  ) -> jax.Array:
    """Returns the log-weights `(N, m)`, rows logsumexp to 0."""
    del student, labels
    return gating.log_weights(
      evidence(jnp.stack([t.logits for t in teachers])),
      self.num_teachers,
      hidden=self.hidden,
      init_scale=self.init_scale,
    )
