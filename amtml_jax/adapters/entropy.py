"""Teachers that are sure of themselves weigh more (EBKD)."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtml_jax import precision
from amtml_jax.types import ModelOutput


def log_weights(teacher_log_probs: jax.Array) -> jax.Array:
  """Logarithms of weights that fall with a teacher's entropy.

  w_t = (1 - H_t / Σ_s H_s) / (m - 1), H_t the entropy of teacher t's prediction
  (EBKD: Kwon et al. 2020, as CA-MKD compares with it). m = 1 gives weight 1;
  teachers that all are perfectly sure weigh alike. Everything stays in log
  space: 1 - H_t/Σ is what the others have of the total, so nothing cancels
  when one teacher has nearly all of it.

  Args:
    teacher_log_probs: `(m, N, C)` at temperature 1; receives no gradient.

  Returns:
    `(N, m)`, rows logsumexp to 0.

  Raises:
    ValueError: if the teachers are not `(m, N, C)`.
  """
  if teacher_log_probs.ndim != 3:
    raise ValueError(f"teachers are (m, N, C), not {teacher_log_probs.shape}.")
  (log_probs,) = precision.at_least_float32(
    jax.lax.stop_gradient(teacher_log_probs)
  )
  teachers = log_probs.shape[0]
  if teachers == 1:
    return jnp.zeros((log_probs.shape[1], 1), log_probs.dtype)
  # log(-p log p); a probability of exactly 0 or 1 has none.
  surprise = jnp.where(jnp.isneginf(log_probs), 1, jnp.maximum(-log_probs, 0))
  log_entropy = jax.nn.logsumexp(log_probs + jnp.log(surprise), axis=-1)
  sure = jnp.all(jnp.isneginf(log_entropy), axis=0)
  share = jax.nn.log_softmax(jnp.where(sure[None], 0, log_entropy), axis=0)
  self_out = jnp.where(jnp.eye(teachers)[..., None] > 0, -jnp.inf, share[None])
  return (jax.nn.logsumexp(self_out, axis=1) - jnp.log(teachers - 1)).T


class Adapter(nn.Module):
  """`log_weights` of the teachers' predictions.

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
    del student, labels
    logits = jnp.stack([teacher.logits for teacher in teachers])
    return log_weights(
      jax.nn.log_softmax(precision.at_least_float32(logits)[0], axis=-1)
    )
