"""A reason to listen to the right teacher: the label under the mixture."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtml_jax import precision, types


def mixture_loss(
  log_weights: jax.Array, teacher_log_probs: jax.Array, labels: jax.Array
) -> jax.Array:
  """Negative log-likelihood of the label under the teachers' mixture.

  L_mix,i = -log Σ_t w_ti p_t(y_i | x_i), probabilities at temperature 1. Not in
  the paper: there the adapter is trained by the KL term alone, which rewards a
  teacher for being like the student rather than for being right.

  Args:
    log_weights: `(N, m)`; receives gradient (0 where a weight is exactly 0).
    teacher_log_probs: `(m, N, C)` at temperature 1; receives none.
    labels: `(N,)` integers in [0, C).

  Returns:
    `(N,)` in nats, not reduced; inf, with gradient 0, where no teacher that is
    listened to allows the label.

  Raises:
    ValueError: if the shapes do not fit.
  """
  rows, teachers = log_weights.shape
  if teacher_log_probs.shape[:2] != (teachers, rows) or labels.shape != (rows,):
    raise ValueError(
      "mixture_loss needs log-weights (N, m), teachers (m, N, C) and labels "
      f"(N,), not {log_weights.shape}, {teacher_log_probs.shape} and "
      f"{labels.shape}."
    )
  log_weights, log_probs = precision.at_least_float32(
    log_weights, jax.lax.stop_gradient(teacher_log_probs)
  )
  index = labels[None, :, None]
  of_label = jnp.take_along_axis(log_probs, index, axis=-1)[..., 0]
  joint = log_weights + of_label.T
  impossible = jnp.all(jnp.isneginf(joint), axis=-1)
  joint = jnp.where(impossible[:, None], 0, joint)
  likelihood = jax.nn.logsumexp(joint, axis=-1)
  return -jnp.where(impossible, -jnp.inf, likelihood)


class Term(nn.Module):
  """`mixture_loss` over one replica's rows; trains the adapter alone.

  Whoever builds the inputs holds the student's representation constant in
  `log_weights` for a term that says `holds_representation`: from the weights
  alone the term could not tell the adapter's gradient from the student's.
  """

  needs_teachers: ClassVar[bool] = True
  holds_representation: ClassVar[bool] = True

  ranking: tuple[int, ...] = ()

  def __call__(self, inputs: types.DistillInputs):
    """Returns the rows' sum and their number."""
    losses = mixture_loss(
      inputs.log_weights, inputs.teacher_log_probs, inputs.labels
    )
    return jnp.sum(losses), jnp.asarray(losses.size, losses.dtype)
