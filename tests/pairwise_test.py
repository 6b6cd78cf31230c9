"""Directions and lengths where rows coincide or nearly do."""

import jax
import jax.numpy as jnp
import numpy as np

from amtml_jax import pairwise


def test_direction_and_length_by_hand():
  direction, length = pairwise.unit(jnp.asarray([[3.0, -4.0], [0.0, 0.0]]))
  np.testing.assert_allclose(direction, [[0.6, -0.8], [0, 0]], rtol=1e-6)
  np.testing.assert_allclose(length, [5, 0], rtol=1e-6)


def test_gradient_of_a_zero_vector_is_zero():
  def both(x):
    direction, length = pairwise.unit(x)
    return jnp.sum(direction) + jnp.sum(length)

  gradient = jax.jit(jax.grad(both))(jnp.asarray([[3.0, -4.0], [0.0, 0.0]]))
  # ∂‖x‖ = (0.6, -0.8); ∂Σe = (1 - e·Σe)/5 with Σe = -0.2.
  by_hand = [0.6 + (1 + 0.6 * 0.2) / 5, -0.8 + (1 - 0.8 * 0.2) / 5]
  np.testing.assert_allclose(gradient, [by_hand, [0, 0]], rtol=1e-5)


def test_vectors_whose_squares_underflow():
  direction, length = pairwise.unit(jnp.asarray([[3e-25, 4e-25]]))
  np.testing.assert_allclose(direction, [[0.6, 0.8]], rtol=1e-6)
  np.testing.assert_allclose(length, [5e-25], rtol=1e-6)


def test_vectors_whose_inverse_length_would_overflow_count_as_zero():
  (direction, length), back = jax.vjp(pairwise.unit, jnp.asarray([[1e-35, 0]]))
  assert (direction == 0).all()
  assert (length == 0).all()
  np.testing.assert_array_equal(back((direction + 1, length + 1))[0], 0)


def test_lengths_of_every_point_to_every_row():
  points = jnp.asarray([[0.0, 0.0], [3.0, 4.0]])
  rows = jnp.asarray([[3.0, 4.0], [0.0, 1.0], [6.0, 8.0]])
  np.testing.assert_allclose(
    jax.jit(pairwise.lengths)(points, rows),
    [[5, 1, 10], [0, 18**0.5, 5]],
    rtol=1e-6,
  )


def test_lengths_keep_no_differences_for_the_gradient():
  rows = jnp.ones((40, 30))
  _, pullback = jax.vjp(lambda x: pairwise.lengths(x, x), rows)
  largest = max(x.size for x in jax.tree.leaves(pullback))
  assert largest <= 40 * 40


def test_probabilities_are_the_softmax(x64):
  logits = jax.random.normal(jax.random.key(0), (5, 7)) * 3
  cotangent = jax.random.normal(jax.random.key(1), (5, 7))
  one, one_back = jax.vjp(lambda z: pairwise.probabilities(z, 2.0), logits)
  two, two_back = jax.vjp(lambda z: jax.nn.softmax(z / 2.0), logits)
  np.testing.assert_allclose(one, two, rtol=1e-14)
  np.testing.assert_allclose(one_back(cotangent)[0], two_back(cotangent)[0])


def test_rounding_of_huge_gradients_does_not_reach_the_logits():
  # p = (1, 1e-10): both gradients are 1e-10 times the cotangents' gap.
  logits = jnp.asarray([0.0, np.log(1e-10)], jnp.float32)
  _, back = jax.vjp(lambda z: pairwise.probabilities(z, 1.0), logits)
  (gradient,) = back(jnp.asarray([1.1e10, 0.1e10], jnp.float32))
  np.testing.assert_allclose(gradient, [1.0, -1.0], rtol=1e-5)
