"""Angles of triples of rows, from the distances between them.

The law of cosines makes a sum over N³ triples of arrays of size N×N, however
many classes there are. It cancels where one leg of an angle is much shorter
than the other: those legs are left to `near_legs`.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import optax

# A leg shorter than this share of its vertex's longest is near. The cosines of
# the others are off by at most its inverse times the rounding of a distance.
_NEAR = 1 / 32
# Classes or rows that one step of a loop adds up: on a CPU written out one
# after the other, which keeps the sum in registers.
_CPU_UNROLL = 4
# Elsewhere one fused sum, of at most so many terms.
_DEVICE_TERMS = 2**24


def squares(points: jax.Array, rows: jax.Array) -> jax.Array:
  """Squared distances up to a common factor: `(n, C), (N, C) -> (n, N)`.

  From the differences themselves, so that the smallest are as precise as the
  largest; the factor brings the largest near 1. A distance below about 1e-33
  of the largest counts as 0. The gradient comes from matrix products, and is
  right if that of a near leg (`split`) is 0. Reverse mode only.

  Args:
    points: `(n, C)`, among the rows; receives gradient.
    rows: `(N, C)`; receives gradient. The factor depends on them alone.
  """
  low = jnp.min(rows, axis=0, keepdims=True)
  high = jnp.max(rows, axis=0, keepdims=True)
  exponent = jnp.frexp(jax.lax.stop_gradient(jnp.max(high - low)))[1]
  # A power of two rounds nothing.
  scale = jnp.ldexp(jnp.ones((), rows.dtype), -jnp.clip(exponent, -76, 76))
  middle = jax.lax.stop_gradient(low + (high - low) / 2)
  return _squares(points, rows, middle, scale)


# The squares of what is 1e-33 of the largest are above 0 at this scale.
_LIFT = 2.0**50


@jax.custom_vjp
def _squares(points, rows, middle, scale):
  del middle

  def term(point, row):
    return ((row[None, :] - point[:, None]) ** 2,)

  by_class = (points.T * (scale * _LIFT), rows.T * (scale * _LIFT))
  lifted = total(term, *by_class)[0]
  tiny = jnp.finfo(rows.dtype).tiny
  return jnp.where(lifted > 0, jnp.maximum(lifted / _LIFT**2, tiny), 0)


def _squares_forward(points, rows, middle, scale):
  # Differences from the middle are no larger than those between rows.
  small = ((points - middle) * scale, (rows - middle) * scale)
  return _squares(points, rows, middle, scale), (*small, scale)


def _squares_backward(residuals, cotangent):
  points, rows, scale = residuals

  def pull(weights, ours, others):
    pulled = jnp.matmul(weights, others, precision="highest")
    weight = jnp.sum(weights, axis=1, keepdims=True)
    return 2 * scale * (weight * ours - pulled)

  on_points = pull(cotangent, points, rows)
  return on_points, pull(cotangent.T, rows, points), None, None


_squares.defvjp(_squares_forward, _squares_backward)


def split(student: jax.Array, target: jax.Array) -> jax.Array:
  """Which legs are near, given both sides' `squares`: `(n, N)` of booleans.

  Legs that are near on either side; not those of length 0 on both, nor those
  of length 0 on one that are far on the other.
  """

  def short(square):
    longest = jnp.max(square, axis=1, keepdims=True)
    return (square > 0) & (square < _NEAR**2 * longest)

  return short(student) | short(target)


def far_sum(
  student: jax.Array,
  student_rows: jax.Array,
  target: jax.Array,
  target_rows: jax.Array,
  near: jax.Array,
  *,
  delta: float,
) -> jax.Array:
  """Σ l_δ(ψᵀ - ψ^S) over the triples with neither leg near.

  Args:
    student: `(n, N)`, `squares` of the vertices to the rows; receives gradient.
    student_rows: `(N, N)`, those among the rows; receives gradient.
    target: `(n, N)`; receives none.
    target_rows: `(N, N)`; receives none.
    near: `(n, N)`.
    delta: δ of the Huber loss.
  """
  return _far_sum(student, student_rows, target, target_rows, near, delta)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _far_sum(student, student_rows, target, target_rows, near, delta):
  one, two = _side(student, near), _side(target, near)

  def at_vertex(one, two):
    error = _at_vertex(*one, student_rows)[0] - _at_vertex(*two, target_rows)[0]
    return (optax.losses.huber_loss(error, delta=delta),)

  return jnp.sum(total(at_vertex, one, two)[0])


def _far_forward(student, student_rows, target, target_rows, near, delta):
  one, two = _side(student, near), _side(target, near)

  def at_vertex(one, two):
    cosine, both = _at_vertex(*one, student_rows)
    error = cosine - _at_vertex(*two, target_rows)[0]
    slope = jnp.clip(error, -delta, delta)
    return slope * (error - slope / 2), -slope * both

  def at_end(one, one_rows, two, two_rows):
    cosine = _at_end(*one, one_rows, student, inverse)
    error = cosine - _at_end(*two, two_rows, target, target_inverse)
    slope = jnp.clip(error, -delta, delta)
    return (slope * (one[1][:, None] - cosine * inverse),)

  losses, on_rows = total(at_vertex, one, two)
  inverse, target_inverse = one[1], two[1]
  ends = [tuple(x.T for x in side) for side in (one, two)]
  (on_legs,) = total(at_end, ends[0], student_rows, ends[1], target_rows)
  # Twice: a leg is the first of some angles and the second of as many. The
  # cosine is (a + b - c)·p_a·p_b with p = 1/√(2a), so p_a' = -p_a³.
  return jnp.sum(losses), (2 * inverse * on_legs, on_rows)


def _far_backward(delta, residuals, cotangent):
  del delta
  on_legs, on_rows = residuals
  return cotangent * on_legs, cotangent * on_rows, None, None, None


_far_sum.defvjp(_far_forward, _far_backward)


def _side(square, near):
  """The legs' squares a, and 1/√(2a), 0 where an angle has no place here."""
  none = near | (square <= 0)
  inverse = jnp.where(none, 0, jax.lax.rsqrt(jnp.where(none, 1, 2 * square)))
  return square, inverse


def _at_vertex(square, inverse, opposite):
  """The cosines at one vertex, `(N,), (N,), (N, N) -> (N, N)`, and p_a·p_b."""
  both = inverse[:, None] * inverse[None, :]
  return (square[:, None] + square[None, :] - opposite) * both, both


def _at_end(square, inverse, opposite, squares_, inverses):
  """The cosines at n vertices between one end and N, `(n, N)`."""
  sides = square[:, None] + squares_ - opposite[None, :]
  return sides * (inverse[:, None] * inverses)


def total(terms, *xs):
  """Σ terms(*x) over the leading axis of the trees `xs`, term by term.

  Never holds all terms. Those of zeros must be 0.

  Args:
    terms: from one x of every tree to a tuple of arrays.
    *xs: trees of arrays with one leading axis.
  """
  count = len(jax.tree.leaves(xs)[0])
  one = jax.eval_shape(terms, *jax.tree.map(lambda x: x[0], xs))
  unrolled = _on_cpu()
  size = _CPU_UNROLL if unrolled else max(8, _DEVICE_TERMS // one[0].size)
  size = min(size, count)
  steps = math.ceil(count / size)

  def blocks(x):
    padding = [(0, steps * size - count)] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, padding).reshape(steps, size, *x.shape[1:])

  def add(sums, block):
    if not unrolled:
      more = jax.vmap(terms)(*block)
      return jax.tree.map(lambda s, m: s + jnp.sum(m, axis=0), sums, more)
    for i in range(size):
      more = terms(*jax.tree.map(lambda x, i=i: x[i], block))
      sums = jax.tree.map(jnp.add, sums, more)
    return sums

  def step(carry, following):
    sums, block = carry
    return (add(sums, block), following), ()

  xs = jax.tree.map(blocks, xs)
  first = jax.tree.map(lambda x: x[0], xs)
  sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), one)
  # A block is carried from one step into the next: XLA would otherwise fuse
  # the slicing into the sums, which a CPU then cannot vectorise. The last step
  # carries the first block once more, for nothing.
  following = jax.tree.map(lambda x: jnp.roll(x, -1, axis=0), xs)
  return jax.lax.scan(step, (sums, first), following)[0][0]


def _on_cpu():
  return jax.default_backend() == "cpu"
