"""Teachers that are right about the label weigh more (CA-MKD)."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtml_jax import precision
from amtml_jax.errors import UserError
from amtml_jax.types import ModelOutput


def log_weights(teacher_log_probs: jax.Array, labels: jax.Array) -> jax.Array:
  """Logarithms of weights that fall with a teacher's cross-entropy.

  w_t = (1 - exp(CE_t) / Σ_s exp(CE_s)) / (m - 1), CE_t teacher t's
  cross-entropy with the label (CA-MKD: Zhang, Chen, Wang 2022, eq. 2). m = 1
  gives weight 1. In log space, and by the others' share rather than by 1 -
  softmax: a teacher that is far off would otherwise cancel to 0. A teacher that
  gives the label no probability at all is as far off as can be.

  Args:
    teacher_log_probs: `(m, N, C)` at temperature 1; receives no gradient.
    labels: `(N,)` integers in [0, C).

  Returns:
    `(N, m)`, rows logsumexp to 0.

  Raises:
    ValueError: if the shapes do not fit.
  """
  if teacher_log_probs.ndim != 3 or (
    labels.shape != teacher_log_probs.shape[1:2]
  ):
    raise ValueError(
      "confidence needs teachers (m, N, C) and labels (N,), not "
      f"{teacher_log_probs.shape} and {labels.shape}."
    )
  (log_probs,) = precision.at_least_float32(
    jax.lax.stop_gradient(teacher_log_probs)
  )
  teachers = log_probs.shape[0]
  if teachers == 1:
    return jnp.zeros((log_probs.shape[1], 1), log_probs.dtype)
  index = labels[None, :, None]
  error = -jnp.take_along_axis(log_probs, index, axis=-1)[..., 0]
  # An infinite error outweighs all finite ones: the limit of the formula.
  lost = jnp.isposinf(error)
  limit = jnp.where(lost, 0, -jnp.inf)
  error = jnp.where(jnp.any(lost, axis=0, keepdims=True), limit, error)
  share = jax.nn.log_softmax(error, axis=0)
  self_out = jnp.where(jnp.eye(teachers)[..., None] > 0, -jnp.inf, share[None])
  return (jax.nn.logsumexp(self_out, axis=1) - jnp.log(teachers - 1)).T


class Adapter(nn.Module):
  """`log_weights` of the teachers' predictions and the labels.

  Without labels, outside training, there are no weights: whoever calls looks at
  `needs_labels` first.

  Attributes:
    num_teachers: m.
    ranking: not looked at; every adapter is built alike.
  """

  needs_labels: ClassVar[bool] = True

  num_teachers: int
  ranking: tuple[int, ...] = ()

  def __call__(
    self,
    student: ModelOutput,
    teachers: tuple[ModelOutput, ...],
    labels: jax.Array | None = None,
  ) -> jax.Array:
    """Returns the log-weights `(N, m)`."""
    del student
    if labels is None:
      raise UserError(
        "the adapter confidence weighs teachers by the labels; give it labels "
        "or use another adapter"
      )
    logits = jnp.stack([teacher.logits for teacher in teachers])
    return log_weights(
      jax.nn.log_softmax(precision.at_least_float32(logits)[0], axis=-1), labels
    )
