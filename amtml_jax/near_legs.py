"""Angles of triples with a leg much shorter than others, from differences.

How many there are is the data's to say: a loop of as many steps as they need,
none in the common case, each on as many as fit. A vertex with many such legs
gets all its angles at once, by matrix products.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import optax

from amtml_jax import pairwise

# Entries of the difference vectors of one step, student's and target's.
_CPU_ENTRIES = 2**18
_DEVICE_ENTRIES = 2**22
# Near legs from which on all angles of a vertex cost less than leg by leg.
_CROWDED = 8


def near_sum(
  vertices: jax.Array,
  rows: jax.Array,
  target_vertices: jax.Array,
  target_rows: jax.Array,
  near: jax.Array,
  *,
  delta: float,
) -> jax.Array:
  """Σ l_δ(ψᵀ - ψ^S) over the triples with a near leg, or two.

  Args:
    vertices: `(n, C)`; receives gradient.
    rows: `(N, C)`; receives gradient.
    target_vertices: `(n, C)`; receives none.
    target_rows: `(N, C)`; receives none.
    near: `(n, N)`, of the legs from vertices to rows.
    delta: δ of the Huber loss.
  """
  return _near_sum(vertices, rows, target_vertices, target_rows, near, delta)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _near_sum(vertices, rows, target_vertices, target_rows, near, delta):
  def step(total, legs):
    return total + _angles(legs, points, ends, near, delta)[0]

  def whole(total, vertex):
    return total + _every_angle(vertex, points, ends, near, delta)[0]

  points = jnp.stack([vertices, target_vertices])
  ends = jnp.stack([rows, target_rows])
  few, crowded = _apart(near)
  total = _for_legs(step, jnp.zeros((), rows.dtype), few, rows)
  return _for_vertices(whole, total, crowded)


def _forward(vertices, rows, target_vertices, target_rows, near, delta):
  def step(carry, legs):
    total, on_vertices, on_rows = carry
    more, pull = _angles(legs, points, ends, near, delta)
    on_near, on_others, on_vertex = pull()
    vertex, end, _ = legs
    on_vertices += _placed(vertex, on_vertex, len(vertices))
    on_rows += on_others + _placed(end, on_near, len(rows))
    return total + more, on_vertices, on_rows

  def whole(carry, vertex):
    total, on_vertices, on_rows = carry
    more, pull = _every_angle(vertex, points, ends, near, delta)
    pulled = pull()
    # One row a step: nothing adds up in an order of its own.
    on_vertices = on_vertices.at[vertex].add(-jnp.sum(pulled, axis=0))
    return total + more, on_vertices, on_rows + pulled

  points = jnp.stack([vertices, target_vertices])
  ends = jnp.stack([rows, target_rows])
  zero = (
    jnp.zeros((), rows.dtype),
    jnp.zeros_like(vertices),
    jnp.zeros_like(rows),
  )
  few, crowded = _apart(near)
  carry = _for_legs(step, zero, few, rows)
  total, *gradient = _for_vertices(whole, carry, crowded)
  return total, gradient


def _backward(delta, residuals, cotangent):
  del delta
  on_vertices, on_rows = residuals
  return cotangent * on_vertices, cotangent * on_rows, None, None, None


_near_sum.defvjp(_forward, _backward)


def _apart(near):
  """The near legs of vertices that have few, and which vertices have many."""
  crowded = jnp.sum(near, axis=1) > _CROWDED
  return near & ~crowded[:, None], crowded


def _for_vertices(step, carry, chosen):
  """Folds `step` over the chosen vertices, one at a time."""
  count = jnp.sum(chosen, dtype=jnp.int32)
  order = jnp.argsort(~chosen, stable=True)

  def body(state):
    done, carry = state
    return done + 1, step(carry, order[done])

  start = jnp.zeros((), jnp.int32)
  return jax.lax.while_loop(lambda s: s[0] < count, body, (start, carry))[1]


def _every_angle(vertex, points, rows, near, delta):
  """One vertex's sum over its angles with a near leg, and its gradient.

  Student and target are stacked: points `(2, n, C)`, rows `(2, N, C)`.
  """
  units, lengths = pairwise.unit(rows - points[:, vertex][:, None])
  cosines = jnp.einsum("sic,skc->sik", units, units, precision="highest")
  error, own = cosines[0] - cosines[1], near[vertex]
  weight = (own[:, None] | own[None, :]).astype(error.dtype)

  def pull():
    slope = weight * jnp.clip(error, -delta, delta)
    # A leg is the first of some angles and the second of as many.
    pulled = 2 * jnp.matmul(slope, units[0], precision="highest")
    along = jnp.sum(pulled * units[0], axis=-1, keepdims=True)
    return (pulled - along * units[0]) * _inverse(lengths[0])[:, None]

  huber = optax.losses.huber_loss(error, delta=delta)
  return jnp.sum(weight * huber), pull


def _for_legs(step, carry, near, rows):
  """Folds `step` over the near legs, some (vertex, end, is one) at a time."""
  on_cpu = jax.default_backend() == "cpu"
  entries = _CPU_ENTRIES if on_cpu else _DEVICE_ENTRIES
  size = max(1, min(near.size, entries // max(1, 2 * rows.size)))
  count = jnp.sum(near, axis=1, dtype=jnp.int32)
  up_to = jnp.cumsum(count)

  def body(state):
    done, carry = state
    number = done + jnp.arange(size, dtype=jnp.int32)
    passed = jnp.sum(up_to[None, :] <= number[:, None], axis=1)
    vertex = jnp.minimum(passed, len(count) - 1)
    rank = number - (up_to - count)[vertex]
    order = jnp.cumsum(near[vertex], axis=1, dtype=jnp.int32)
    passed = jnp.sum(order <= rank[:, None], axis=1)
    end = jnp.minimum(passed, near.shape[1] - 1)
    legs = (vertex, end, number < up_to[-1])
    return done + size, step(carry, legs)

  start = jnp.zeros((), jnp.int32)
  return jax.lax.while_loop(lambda s: s[0] < up_to[-1], body, (start, carry))[1]


def _angles(legs, points, rows, near, delta):
  """The sum over the legs' angles, and a function to its gradient.

  Student and target are stacked: points `(2, n, C)`, rows `(2, N, C)`.
  """
  vertex, end, is_one = legs
  origin = points[:, vertex]
  short, length = pairwise.unit(rows[:, end] - origin)
  units, lengths = pairwise.unit(rows[:, None] - origin[:, :, None])
  cosines = jnp.einsum("sbc,sbkc->sbk", short, units, precision="highest")
  error = cosines[0] - cosines[1]
  # An angle with one near leg stands for its mirror image too; one with two
  # meets its mirror image at the other leg.
  weight = is_one[:, None] * (2 - near[vertex].astype(error.dtype))

  def pull():
    slope = weight * jnp.clip(error, -delta, delta)
    # On the difference to k: slope·(short - cosine·unit)/length.
    share = slope * _inverse(lengths[0])
    turn = share * cosines[0]
    weights = jnp.stack([slope, turn])
    on_short, back = jnp.einsum(
      "qbk,bkc->qbc", weights, units[0], precision="highest"
    )
    along = jnp.sum(on_short * short[0], axis=-1, keepdims=True)
    on_near = (on_short - along * short[0]) * _inverse(length[0])[:, None]
    on_others = jnp.einsum("bk,bc->kc", share, short[0], precision="highest")
    on_others -= jnp.sum(turn[..., None] * units[0], axis=0)
    back = jnp.sum(share, axis=1, keepdims=True) * short[0] - back
    # A difference is a row minus a vertex.
    return on_near, on_others, -(on_near + back)

  huber = optax.losses.huber_loss(error, delta=delta)
  return jnp.sum(weight * huber), pull


def _placed(index, values, count):
  """Each value in its row of `count`; a product adds up in a fixed order."""
  one_hot = jax.nn.one_hot(index, count, dtype=values.dtype)
  return jnp.einsum("bn,bc->nc", one_hot, values, precision="highest")


def _inverse(length):
  return jnp.where(length > 0, 1 / jnp.where(length > 0, length, 1), 0)
