"""Attention maps: reference values, hand-made ones, maps without activity."""

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax.losses import attention
from amtml_jax.types import DistillInputs, ModelOutput

loss = jax.jit(attention.attention_loss)


@pytest.mark.parametrize("case", golden.cases("attention"), ids=golden.title)
def test_reference_values(x64, case):
  value = loss(case["student"], case["target"])
  np.testing.assert_allclose(value, case["expected"], rtol=1e-10)


def test_float32_agrees():
  rng = np.random.default_rng(0)
  target = rng.normal(size=(3, 2, 4, 6))
  golden.precise_agreement(
    lambda s: attention.attention_loss(s, target.astype(s.dtype)),
    rng.normal(size=(3, 2, 4, 3)),
  )


def one_row(*cells):
  """A map of one row of cells, each with its channels."""
  return jnp.asarray(cells, jnp.float32)[None, None]


def test_value_by_hand():
  # Squares' means are (3, 4) and (0, 2): directions (.6, .8) and (0, 1).
  student = one_row((1.0, 5**0.5), (-2.0, 2.0))
  teacher = one_row((0.0,), (2**0.5,))
  expected = (0.6**2 + 0.2**2) / 2
  np.testing.assert_allclose(loss(student, teacher), expected, rtol=1e-6)


def test_sign_and_scale_of_activations_do_not_matter():
  rng = np.random.default_rng(1)
  student, teacher = rng.normal(size=(2, 2, 3, 3, 4)).astype(np.float32)
  value = loss(student, teacher)
  np.testing.assert_allclose(loss(-3 * student, teacher), value, rtol=1e-5)
  np.testing.assert_allclose(loss(student, 9 * teacher), value, rtol=1e-5)


@pytest.mark.parametrize("silent", ["student", "teacher", "both"])
def test_an_all_zero_map_has_nothing_to_compare(silent):
  student = jnp.concatenate([one_row((1.0,), (2.0,)), one_row((3.0,), (1.0,))])
  teacher = student[::-1]
  dead = jnp.asarray([1.0, 0.0])[:, None, None, None]
  if silent in ("student", "both"):
    student = student * dead
  if silent in ("teacher", "both"):
    teacher = teacher * dead
  value, gradient = jax.jit(jax.value_and_grad(attention.attention_loss))(
    student, teacher
  )
  # The other row: (1, 4)/√17 against (9, 1)/√82, half of the mean.
  gap = np.asarray([1, 4]) / 17**0.5 - np.asarray([9, 1]) / 82**0.5
  np.testing.assert_allclose(value, np.mean(gap**2) / 2, rtol=1e-6)
  np.testing.assert_array_equal(gradient[1], 0)
  assert np.abs(gradient[0]).max() > 0.01


def test_term_compares_stages_with_the_best_teacher():
  small, large = (
    one_row((1.0,), (0.0,)),
    one_row((0.0,), (0.0,), (1.0,), (1.0,)),
  )
  student = ModelOutput(
    jnp.zeros((1, 2)), (large, small, small), ("stem", "stage1", "stage2")
  )
  good = ModelOutput(jnp.zeros((1, 2)), (large,) * 3)
  bad = ModelOutput(jnp.zeros((1, 2)), (small,) * 3)
  inputs = DistillInputs(student, jnp.zeros(1, int), (bad, good))
  # Two stages, each (1, 0) against (0, 1): a mean square of 1.
  total, count = attention.Term(ranking=(1, 0)).apply({}, inputs)
  np.testing.assert_allclose((total, count), (2, 1), rtol=1e-6)
  total, _ = attention.Term(ranking=(0, 1)).apply({}, inputs)
  np.testing.assert_allclose(total, 0, atol=1e-7)


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match="the same N, H and W"):
    attention.attention_loss(jnp.ones((1, 2, 2, 3)), jnp.ones((1, 4, 4, 3)))
