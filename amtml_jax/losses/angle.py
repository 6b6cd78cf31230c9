"""The angle between any three rows of soft targets, student against target."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtml_jax import near_legs, pairwise, parallel, triples, types


def angle_loss(
  student_probs: jax.Array, target_probs: jax.Array, *, delta: float = 1.0
) -> jax.Array:
  """Huber loss between the angles that triples of rows form.

  L_Angle = 1/N³ Σ_ijk l_δ(ψ(ỹᵀ_i, ỹᵀ_j, ỹᵀ_k) - ψ(ỹ^S_i, ỹ^S_j, ỹ^S_k)), where
  ψ(a, b, c) = ⟨e_ab, e_cb⟩ is the cosine at b, e_ab = (a - b)/‖a - b‖, and 0
  where rows coincide (Liu, Zhang, Wang 2020, section 3.2; RKD-A of Park et al.
  2019). All ordered triples count, degenerate ones too.

  O(N²) memory: the gradient is found in the forward pass. The work is O(N²C)
  for the distances and O(N³) for the law of cosines, plus O(NC) for every leg
  shorter than 1/32 of its vertex's longest, whose angles come from difference
  vectors: near duplicates stay exact, and a batch of nothing else costs
  O(N³C). Reverse mode only.

  Args:
    student_probs: `(N, C)`; receives gradient (0 from coinciding rows).
      Computed in at least float32.
    target_probs: `(N, C)`; receives none.
    delta: δ, where the Huber loss turns linear.

  Returns:
    A scalar, the mean over the N³ ordered triples.

  Raises:
    ValueError: if the shapes differ or δ is not positive.
  """
  rows = student_probs.shape[0] if student_probs.ndim else 0
  return vertex_sum(student_probs, target_probs, delta=delta) / rows**3


def vertex_sum(
  student_probs: jax.Array,
  target_probs: jax.Array,
  *,
  delta: float = 1.0,
  axis: str | None = None,
) -> jax.Array:
  """`angle_loss` unnormalised, over the triples with a vertex j of our own.

  Args:
    student_probs: `(n, C)`, this replica's rows; receives gradient.
    target_probs: `(n, C)`; receives none.
    delta: δ of the Huber loss.
    axis: the axis of replicas, over which the ends i and k range.

  Returns:
    The scalar sum over n·N² triples, N the rows of all replicas.

  Raises:
    ValueError: if the shapes differ or δ is not positive.
  """
  if student_probs.ndim != 2 or student_probs.shape != target_probs.shape:
    raise ValueError(
      "the angle loss needs student and target of one shape (N, C), not "
      f"{student_probs.shape} and {target_probs.shape}."
    )
  if not delta > 0:
    raise ValueError(f"the Huber loss needs a positive delta, not {delta}.")
  delta = float(delta)
  dtype = jnp.result_type(student_probs, target_probs, jnp.float32)
  student = student_probs.astype(dtype)
  target = jax.lax.stop_gradient(target_probs.astype(dtype))
  rows, target_rows = (parallel.all_rows(x, axis) for x in (student, target))
  legs = triples.squares(student, rows)
  target_legs = triples.squares(target, target_rows)
  near = triples.split(legs, target_legs)
  # Each replica finds its own rows' distances, none finds all.
  far = triples.far_sum(
    legs,
    parallel.all_rows(legs, axis),
    target_legs,
    parallel.all_rows(target_legs, axis),
    near,
    delta=delta,
  )
  return far + near_legs.near_sum(
    student, rows, target, target_rows, near, delta=delta
  )


class Term(nn.Module):
  """`angle_loss` of the soft targets; each replica takes its own vertices.

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
    """Returns the sum over our vertices' triples and their number."""
    student = pairwise.soft_rows(
      inputs.student.logits, inputs.temperature, log=self.log_student
    )
    target = jnp.exp(inputs.target_log_probs)
    total = vertex_sum(student, target, delta=self.delta, axis=inputs.axis)
    rows = jnp.asarray(student.shape[0], total.dtype)
    return total, rows * parallel.all_sum(rows, inputs.axis) ** 2
