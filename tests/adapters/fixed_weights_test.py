"""The adapters that learn nothing, by hand and at their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax.adapters import confidence, entropy, single, uniform
from amtml_jax.errors import UserError
from amtml_jax.types import ModelOutput

STUDENT = ModelOutput(jnp.zeros((2, 3)), ())
ZEROS = jnp.zeros(2, int)
by_entropy = jax.jit(entropy.log_weights)
by_label = jax.jit(confidence.log_weights)


def test_uniform():
  found = uniform.Adapter(num_teachers=4).apply({}, STUDENT, ())
  np.testing.assert_allclose(found, np.log(np.full((2, 4), 0.25)), rtol=1e-6)


@pytest.mark.parametrize(
  ("ranking", "index", "expected"),
  [((2, 0, 1), None, 2), ((), None, 0), ((2, 0, 1), 1, 1)],
)
def test_single(ranking, index, expected):
  adapter = single.Adapter(num_teachers=3, ranking=ranking, index=index)
  found = adapter.apply({}, STUDENT, ())
  np.testing.assert_array_equal(np.exp(found), [np.eye(3)[expected]] * 2)


def test_single_without_such_a_teacher():
  with pytest.raises(UserError, match="index is 3, but there are 3"):
    single.Adapter(num_teachers=3, index=3).apply({}, STUDENT, ())


def test_entropy_by_hand():
  # Entropies log 4, log 2 and log 1: shares 2/3, 1/3 and 0.
  probs = [[0.25] * 4, [0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]
  with np.errstate(divide="ignore"):
    found = by_entropy(jnp.log(jnp.asarray(probs))[:, None])
  np.testing.assert_allclose(np.exp(found), [[1 / 6, 1 / 3, 1 / 2]], rtol=1e-6)


def test_confidence_by_hand():
  # exp(CE) is 1/p: 1.25, 2 and 10 of 13.25.
  teachers = jnp.log(jnp.asarray([[0.8, 0.2], [0.5, 0.5], [0.1, 0.9]]))[:, None]
  found = by_label(teachers, ZEROS[:1])
  expected = (1 - np.asarray([1.25, 2.0, 10.0]) / 13.25) / 2
  np.testing.assert_allclose(np.exp(found), [expected], rtol=1e-5)


def test_one_teacher_has_all_the_weight():
  teachers = jnp.log(jnp.asarray([[[0.3, 0.7], [1.0, 0.0]]]))
  np.testing.assert_array_equal(by_entropy(teachers), [[0.0], [0.0]])
  np.testing.assert_array_equal(by_label(teachers, ZEROS), [[0.0], [0.0]])


def test_a_share_that_rounds_to_one_leaves_a_small_weight():
  # Teacher 1's exp(CE) is e^40 times teacher 0's: w_1 = e^-40, not 0.
  wrong = jnp.asarray([[[0.0, -40.0]], [[-40.0, 0.0]]])
  found = by_label(wrong, ZEROS[:1])
  np.testing.assert_allclose(found, [[0.0, -40.0]], rtol=1e-6, atol=1e-7)
  # Entropies (1 + a)·e^-a, underflowing at a = 120; and log 2 beside it.
  sure = jnp.asarray([[[0.0, -120.0]], [[-np.log(2)] * 2]], jnp.float32)
  found = by_entropy(sure)
  small = np.log(120) - 120 - np.log(np.log(2))
  np.testing.assert_allclose(found, [[0.0, small]], rtol=1e-6, atol=1e-7)


def test_teachers_sure_beyond_the_numbers():
  sure = jnp.asarray([[[0.0, -jnp.inf]]] * 3)
  np.testing.assert_allclose(np.exp(by_entropy(sure)), [[1 / 3] * 3], rtol=1e-6)
  # Two of three exclude the label: they share the blame.
  flipped = jnp.concatenate([sure[:1], sure[1:, :, ::-1]])
  np.testing.assert_allclose(
    np.exp(by_label(flipped, ZEROS[:1])), [[0.5, 0.25, 0.25]], rtol=1e-6
  )
  np.testing.assert_array_equal(
    np.exp(by_label(flipped[:2], ZEROS[:1])), [[1.0, 0.0]]
  )


def test_teachers_receive_no_gradient():
  teachers = jnp.log(jnp.asarray([[[0.3, 0.7]], [[1.0, 0.0]]]))
  for function in (entropy.log_weights, confidence.log_weights):
    labels = (ZEROS[:1],) if function is confidence.log_weights else ()
    gradient = jax.jit(
      jax.grad(lambda t, f=function, y=labels: jnp.sum(f(t, *y)))
    )(teachers)
    np.testing.assert_array_equal(gradient, 0)


def test_confidence_without_labels_is_the_users_mistake():
  with pytest.raises(UserError, match="give it labels"):
    confidence.Adapter(num_teachers=1).apply({}, STUDENT, (STUDENT,))


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match=r"\(m, N, C\)"):
    entropy.log_weights(jnp.zeros((2, 3)))
  with pytest.raises(ValueError, match=r"labels \(N,\)"):
    confidence.log_weights(jnp.zeros((2, 3, 4)), ZEROS)
