"""The distances between rows of soft targets, student against target."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from amtml_jax import pairwise, parallel, types


def distance_loss(
  student_probs: jax.Array, target_probs: jax.Array, *, delta: float = 1.0
) -> jax.Array:
  """Huber loss between the relative distances of pairs of rows.

  L_D = 1/N² Σ_ij l_δ(d^S_ij/μ^S - dᵀ_ij/μᵀ), d the Euclidean distance and μ its
  mean over the pairs at a positive distance (RKD-D of Park et al. 2019). 0,
  with gradient 0, where all rows of either side are equal.

  Args:
    student_probs: `(N, C)`; receives gradient, through μ^S as well (0 from
      coinciding rows). Computed in at least float32.
    target_probs: `(N, C)`; receives none.
    delta: δ, where the Huber loss turns linear.

  Returns:
    A scalar, the mean over the N² ordered pairs.

  Raises:
    ValueError: if the shapes differ or δ is not positive.
  """
  rows = student_probs.shape[0] if student_probs.ndim else 0
  return pair_sum(student_probs, target_probs, delta=delta) / rows**2


def pair_sum(
  student_probs: jax.Array,
  target_probs: jax.Array,
  *,
  delta: float = 1.0,
  axis: str | None = None,
) -> jax.Array:
  """`distance_loss` unnormalised, over the pairs with a row i of our own.

  Args:
    student_probs: `(n, C)`, this replica's rows; receives gradient.
    target_probs: `(n, C)`; receives none.
    delta: δ of the Huber loss.
    axis: the axis of replicas, over which μ and the rows j range.

  Returns:
    The scalar sum over n·N pairs, N the rows of all replicas.

  Raises:
    ValueError: if the shapes differ or δ is not positive.
  """
  if student_probs.ndim != 2 or student_probs.shape != target_probs.shape:
    raise ValueError(
      "the distance loss needs student and target of one shape (N, C), not "
      f"{student_probs.shape} and {target_probs.shape}."
    )
  if not delta > 0:
    raise ValueError(f"the Huber loss needs a positive delta, not {delta}.")
  dtype = jnp.result_type(student_probs, target_probs, jnp.float32)
  student, comparable = _relative(student_probs.astype(dtype), axis)
  target, target_comparable = _relative(
    jax.lax.stop_gradient(target_probs.astype(dtype)), axis
  )
  losses = optax.losses.huber_loss(student, target, delta=delta)
  return jnp.where(comparable & target_comparable, jnp.sum(losses), 0)


def _relative(probs, axis):
  """Distances `(n, N)` by their mean, and whether there is one at all."""
  distances = pairwise.lengths(probs, parallel.all_rows(probs, axis))
  total = parallel.all_sum(jnp.sum(distances), axis)
  positive = jnp.sum(distances > 0, dtype=probs.dtype)
  pairs = parallel.all_sum(positive, axis)
  mean = total / jnp.maximum(pairs, 1)
  return distances / jnp.where(pairs > 0, mean, 1), pairs > 0


class Term(nn.Module):
  """`distance_loss` of the soft targets; each replica takes its own rows i.

  Attributes:
    ranking: not looked at; every term is built alike.
    delta: δ of the Huber loss.
    log_student: compare the student's log-probabilities with the target's
      probabilities, as the authors' notebooks do.
  """

  needs_teachers: ClassVar[bool] = True

  ranking: tuple[int, ...] = ()
  delta: float = 1.0
  log_student: bool = False

  def __call__(self, inputs: types.DistillInputs):
    """Returns the sum over our rows' pairs and their number."""
    student = pairwise.soft_rows(
      inputs.student.logits, inputs.temperature, log=self.log_student
    )
    total = pair_sum(
      student,
      jnp.exp(inputs.target_log_probs),
      delta=self.delta,
      axis=inputs.axis,
    )
    rows = jnp.asarray(student.shape[0], total.dtype)
    return total, rows * parallel.all_sum(rows, inputs.axis)
