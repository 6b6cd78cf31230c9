"""The angle between any three rows of soft targets, student against target."""

from __future__ import annotations

import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from amtml_jax import pairwise, parallel, types

# Entries of the largest array that one step of the scan holds, if a vertex
# needs no more: what fits a CPU's cache is too little to fill an accelerator.
_CPU_ENTRIES = 2**14
_DEVICE_ENTRIES = 2**20


def angle_loss(
  student_probs: jax.Array, target_probs: jax.Array, *, delta: float = 1.0
) -> jax.Array:
  """Huber loss between the angles that triples of rows form.

  L_Angle = 1/N³ Σ_ijk l_δ(ψ(ỹᵀ_i, ỹᵀ_j, ỹᵀ_k) - ψ(ỹ^S_i, ỹ^S_j, ỹ^S_k)), where
  ψ(a, b, c) = ⟨e_ab, e_cb⟩ is the cosine at b, e_ab = (a - b)/‖a - b‖, and 0
  where rows coincide (Liu, Zhang, Wang 2020, section 3.2; RKD-A of Park et al.
  2019). All ordered triples count, degenerate ones too.

  O(N²) memory: the gradient is found in the forward pass, a few vertices j at
  a time, from difference vectors, so that near duplicates stay exact. Reverse
  mode only. The matrix products ask for the highest precision.

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
  total = vertex_sum(
    student_probs, student_probs, target_probs, target_probs, delta=delta
  )
  return total / rows**3


def vertex_sum(
  vertices: jax.Array,
  rows: jax.Array,
  target_vertices: jax.Array,
  target_rows: jax.Array,
  *,
  delta: float = 1.0,
) -> jax.Array:
  """`angle_loss` unnormalised, over the triples with a vertex j of our own.

  What one replica does: its own rows as vertices, every replica's rows as the
  ends i and k.

  Args:
    vertices: `(n, C)`; receives gradient.
    rows: `(N, C)`; receives gradient.
    target_vertices: `(n, C)`; receives none.
    target_rows: `(N, C)`; receives none.
    delta: δ of the Huber loss.

  Returns:
    The scalar sum over n·N² triples.

  Raises:
    ValueError: if the shapes do not fit or δ is not positive.
  """
  if rows.ndim != 2 or rows.shape != target_rows.shape:
    raise ValueError(
      "the angle loss needs student and target of one shape (N, C), not "
      f"{rows.shape} and {target_rows.shape}."
    )
  if not delta > 0:
    raise ValueError(f"the Huber loss needs a positive delta, not {delta}.")
  dtype = jnp.result_type(rows, target_rows, jnp.float32)
  own, ends = vertices.astype(dtype), rows.astype(dtype)
  targets = (target_vertices.astype(dtype), target_rows.astype(dtype))
  return _sum(own, ends, *jax.lax.stop_gradient(targets), float(delta))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _sum(vertices, rows, target_vertices, target_rows, delta):
  def step(total, block):
    return total + _block(*block, rows, target_rows, delta)[0], ()

  zero = jnp.zeros((), rows.dtype)
  return _scan(step, zero, vertices, target_vertices, rows)[0]


def _forward(vertices, rows, target_vertices, target_rows, delta):
  def step(carry, block):
    total, on_rows = carry
    more, pull = _block(*block, rows, target_rows, delta)
    on_differences = pull()
    # A difference is a row minus a vertex.
    return (
      (total + more, on_rows + jnp.sum(on_differences, axis=0)),
      -jnp.sum(on_differences, axis=1),
    )

  zero = (jnp.zeros((), rows.dtype), jnp.zeros_like(rows))
  (total, on_rows), on_vertices = _scan(
    step, zero, vertices, target_vertices, rows
  )
  return total, (on_vertices, on_rows)


def _backward(delta, residuals, cotangent):
  del delta
  on_vertices, on_rows = residuals
  return cotangent * on_vertices, cotangent * on_rows, None, None


_sum.defvjp(_forward, _backward)


def _scan(step, carry, vertices, target_vertices, rows):
  """Folds `step` over blocks of vertices, the last one as short as it is."""
  count = vertices.shape[0]
  on_cpu = jax.default_backend() == "cpu"
  entries = _CPU_ENTRIES if on_cpu else _DEVICE_ENTRIES
  size = min(count, max(1, entries // (rows.shape[0] * max(rows.shape))))
  whole = count // size * size
  pair = (vertices, target_vertices)
  blocks = [x[:whole].reshape(-1, size, x.shape[1]) for x in pair]
  carry, out = jax.lax.scan(step, carry, tuple(blocks))
  out = jax.tree.map(lambda x: x.reshape(whole, x.shape[-1]), out)
  if whole < count:
    carry, rest = step(carry, tuple(x[whole:] for x in pair))
    out = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), out, rest)
  return carry, out


def _block(vertices, target_vertices, rows, target_rows, delta):
  """The block's sum, and a function to its gradient on the differences."""
  unit, length = pairwise.unit(pairwise.differences(vertices, rows))
  target, _ = pairwise.unit(pairwise.differences(target_vertices, target_rows))
  error = _cosines(unit) - _cosines(target)

  def pull():
    slope = jnp.clip(error, -delta, delta)
    # Twice: a unit vector is the end i of some triples and k of as many.
    on_unit = 2 * jnp.einsum("bik,bkc->bic", slope, unit, precision="highest")
    along = jnp.sum(on_unit * unit, axis=-1, keepdims=True)
    inverse = jnp.where(length > 0, 1 / jnp.where(length > 0, length, 1), 0)
    return (on_unit - along * unit) * inverse[..., None]

  return jnp.sum(optax.losses.huber_loss(error, delta=delta)), pull


def _cosines(unit):
  return jnp.einsum("bic,bkc->bik", unit, unit, precision="highest")


class Term(nn.Module):
  """`angle_loss` of the soft targets; each replica takes its own vertices."""

  needs_teachers: ClassVar[bool] = True

  ranking: tuple[int, ...] = ()
  delta: float = 1.0

  def __call__(self, inputs: types.DistillInputs):
    """Returns the sum over our vertices' triples and their number."""
    student = pairwise.probabilities(inputs.student.logits, inputs.temperature)
    target = jax.lax.stop_gradient(jnp.exp(inputs.target_log_probs))
    every = parallel.all_rows(student, inputs.axis)
    total = vertex_sum(
      student,
      every,
      target,
      parallel.all_rows(target, inputs.axis),
      delta=self.delta,
    )
    triples = student.shape[0] * every.shape[0] ** 2
    return total, jnp.asarray(triples, total.dtype)
