"""The label's likelihood under the mixture, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax.losses import mixture

# Two teachers, two rows, two classes.
TEACHERS = jnp.log(
  jnp.asarray([[[0.5, 0.5], [0.9, 0.1]], [[0.25, 0.75], [0.2, 0.8]]])
)
WEIGHTS = jnp.log(jnp.asarray([[0.5, 0.5], [0.0, 1.0]]))
LABELS = jnp.asarray([0, 1])


def total(weights, teachers):
  return jnp.sum(mixture.mixture_loss(weights, teachers, LABELS))


def test_values_and_gradients_by_hand():
  loss = jax.jit(mixture.mixture_loss)(WEIGHTS, TEACHERS, LABELS)
  np.testing.assert_allclose(loss, -np.log([0.375, 0.8]), rtol=1e-6)
  on_weights, on_teachers = jax.jit(jax.grad(total, (0, 1)))(WEIGHTS, TEACHERS)
  # Minus each teacher's share of the likelihood; none for a weight of 0.
  np.testing.assert_allclose(on_weights, [[-2 / 3, -1 / 3], [0, -1]], rtol=1e-6)
  np.testing.assert_array_equal(on_teachers, 0)


def test_a_label_that_no_teacher_allows():
  teachers = jnp.log(jnp.asarray([[[0.0, 1.0], [0.5, 0.5]]] * 2))
  loss, gradient = jax.jit(jax.value_and_grad(total))(WEIGHTS, teachers)
  assert loss == np.inf
  np.testing.assert_allclose(gradient, [[0, 0], [0, -1]], rtol=1e-6)


def test_probabilities_that_underflow():
  teachers = jnp.asarray([[[-240.0, 0.0]] * 2, [[-250.0, 0.0]] * 2])
  gradient = jax.jit(jax.grad(total))(jnp.log(jnp.full((2, 2), 0.5)), teachers)
  odds = np.exp(-10)
  np.testing.assert_allclose(
    gradient[0], [-1 / (1 + odds), -odds / (1 + odds)], rtol=1e-4
  )


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match="labels"):
    mixture.mixture_loss(WEIGHTS, TEACHERS, LABELS[:1])
  with pytest.raises(ValueError, match=r"teachers \(m, N, C\)"):
    mixture.mixture_loss(WEIGHTS[:1], TEACHERS, LABELS[:1])
