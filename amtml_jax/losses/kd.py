"""Soft targets and the KL term between them."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtml_jax import precision, types


def soft_targets(logits: jax.Array, temperature: float) -> jax.Array:
  """The logarithm of the soft targets ỹ = softmax(z / τ).

  Liu, Zhang, Wang (2020), section 3.1; Hinton, Vinyals, Dean (2015). Kept as
  a logarithm: a probability that underflows would spoil the gradient of what
  is mixed or compared later.

  Args:
    logits: `(..., C)`; receives gradient. Computed in at least float32.
    temperature: τ > 0.

  Returns:
    Log-probabilities `(..., C)`, in nats.
  """
  (logits,) = precision.at_least_float32(logits)
  return jax.nn.log_softmax(logits / temperature, axis=-1)


def kd_loss(
  student_logits: jax.Array,
  target_log_probs: jax.Array,
  *,
  temperature: float,
) -> jax.Array:
  """KL divergence of the student's soft targets from the integrated ones.

  τ² KL(ỹᵀ_i ‖ ỹ^S_i) = τ² Σ_c ỹᵀ_ic (log ỹᵀ_ic - log ỹ^S_ic), the soft part of
  L_KD (Liu, Zhang, Wang 2020, section 3.2). τ² keeps the gradient's size
  independent of τ. Where a target is exactly 0 (a log-probability of -inf) the
  class adds 0, and 0 to both gradients.

  Args:
    student_logits: `(N, C)`, not divided by τ; receives gradient.
    target_log_probs: `(N, C)` at temperature τ; receives gradient, which is
      how the adapter is trained.
    temperature: τ > 0.

  Returns:
    `(N,)` in nats, summed over classes, not reduced over rows.

  Raises:
    ValueError: if the shapes differ.
  """
  if student_logits.ndim != 2 or student_logits.shape != target_log_probs.shape:
    raise ValueError(
      "kd_loss needs student logits and targets of one shape (N, C), not "
      f"{student_logits.shape} and {target_log_probs.shape}."
    )
  (target,) = precision.at_least_float32(target_log_probs)
  student = soft_targets(student_logits, temperature)
  # The inner where keeps -inf out of the product, whose gradient would be NaN
  # even under the outer one.
  absent = jnp.isneginf(target)
  present = jnp.where(absent, 0, target)
  parts = jnp.where(absent, 0, jnp.exp(present) * (present - student))
  return temperature**2 * jnp.sum(parts, axis=-1)


class Term(nn.Module):
  """`kd_loss` over one replica's rows.

  Attributes:
    ranking: not looked at; every term is built alike.
    per_class: divide by the classes too, as PyTorch's `KLDivLoss` does by
      default and the authors' notebooks with it.
  """

  needs_teachers: ClassVar[bool] = True

  ranking: tuple[int, ...] = ()
  per_class: bool = False

  def __call__(self, inputs: types.DistillInputs):
    """Returns the rows' sum and their number."""
    losses = kd_loss(
      inputs.student.logits,
      inputs.target_log_probs,
      temperature=inputs.temperature,
    )
    if self.per_class:
      losses = losses / inputs.student.logits.shape[-1]
    return jnp.sum(losses), jnp.asarray(losses.size, losses.dtype)
