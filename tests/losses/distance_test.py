"""The distance loss against reference values and a plain oracle."""

import functools

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax.losses import distance
from amtml_jax.types import DistillInputs, ModelOutput

PARTS = golden.cases("parts")


def softmax(logits):
  exp = np.exp(logits - logits.max(-1, keepdims=True))
  return exp / exp.sum(-1, keepdims=True)


def rows(n, c, seed):
  return softmax(np.random.default_rng(seed).normal(size=(n, c)))


@functools.partial(jax.jit, static_argnames="delta")
def loss(student, target, delta=1.0):
  return distance.distance_loss(student, target, delta=delta)


def oracle(student, target, delta=1.0):
  def relative(x):
    square = jnp.sum((x[:, None] - x[None, :]) ** 2, axis=-1)
    length = jnp.where(
      square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0
    )
    return length / (jnp.sum(length) / jnp.sum(square > 0))

  error = jnp.abs(relative(target) - relative(student))
  return jnp.mean(
    jnp.where(error <= delta, error**2 / 2, delta * (error - delta / 2))
  )


@pytest.mark.parametrize("case", PARTS, ids=golden.title)
def test_reference_values(x64, case):
  student = softmax(case["student_logits"] / case["temperature"])
  value = loss(student, case["expected"]["target"])
  np.testing.assert_allclose(value, case["expected"]["distance"], rtol=1e-10)


@pytest.mark.parametrize(("n", "delta"), [(2, 1.0), (5, 0.1), (19, 0.1)])
def test_gradient_of_the_oracle(x64, n, delta):
  student, target = rows(n, 4, 0), rows(n, 4, 1)
  student[1] = student[0] if n > 2 else student[1]
  got, want = (
    jax.jit(jax.value_and_grad(lambda s, f=f: f(s, target, delta)))(
      jnp.asarray(student)
    )
    for f in (loss, oracle)
  )
  np.testing.assert_allclose(got[0], want[0], rtol=1e-11, atol=1e-16)
  np.testing.assert_allclose(got[1], want[1], rtol=1e-9, atol=1e-14)


def test_float32_agrees_near_duplicates_included():
  student, target = rows(8, 5, 2), rows(8, 5, 3)
  student[3] = student[2] + 1e-6
  golden.precise_agreement(
    lambda s: distance.distance_loss(s, target.astype(s.dtype)), student
  )


def test_scale_and_order_do_not_matter(x64):
  student, target = rows(6, 4, 4), rows(6, 4, 5)
  order = np.random.default_rng(0).permutation(6)
  value = loss(student, target)
  for same in (
    loss(7 * student, target),
    loss(student, 0.1 * target + 1),
    loss(student[order], target[order]),
  ):
    np.testing.assert_allclose(same, value, rtol=1e-12)


@pytest.mark.parametrize("equal", ["student", "target", "both", "one row"])
def test_nothing_to_compare(equal):
  student, target = (jnp.asarray(rows(4, 3, s), jnp.float32) for s in (6, 7))
  same = jnp.repeat(student[:1], 4, axis=0)
  student, target = {
    "student": (same, target),
    "target": (student, same),
    "both": (same, same),
    "one row": (student[:1], target[:1]),
  }[equal]
  value, gradient = jax.jit(jax.value_and_grad(loss))(student, target)
  assert value == 0
  np.testing.assert_array_equal(gradient, 0)


def test_the_target_receives_no_gradient():
  gradient = jax.jit(jax.grad(loss, 1))(
    jnp.asarray(rows(4, 3, 8), jnp.float32),
    jnp.asarray(rows(4, 3, 9), jnp.float32),
  )
  np.testing.assert_array_equal(gradient, 0)


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match=r"one shape \(N, C\)"):
    distance.distance_loss(jnp.ones((3, 2)), jnp.ones((3, 4)))
  with pytest.raises(ValueError, match="positive delta"):
    distance.distance_loss(jnp.ones((3, 2)), jnp.ones((3, 2)), delta=-1.0)


def test_the_students_logarithms_may_be_compared(x64):
  rng = np.random.default_rng(3)
  logits, target = 4 * rng.normal(size=(5, 3)), rows(5, 3, 4)
  inputs = DistillInputs(
    ModelOutput(jnp.asarray(logits), ()),
    jnp.zeros(5, int),
    target_log_probs=jnp.log(target),
    temperature=2.0,
  )
  exp = np.exp(logits / 2.0)
  probs = exp / exp.sum(-1, keepdims=True)
  total, count = jax.jit(distance.Term(log_student=True).apply)({}, inputs)
  expected = oracle(jnp.asarray(np.log(probs)), jnp.asarray(target))
  np.testing.assert_allclose(total / count, expected, rtol=1e-9)
