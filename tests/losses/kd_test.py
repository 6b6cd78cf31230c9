"""Soft targets and KL: reference values, exact zeros, huge logits."""

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from amtml_jax.losses import cross_entropy, kd
from amtml_jax.types import DistillInputs, ModelOutput

CASES = golden.cases("kd")


@pytest.mark.parametrize("case", CASES, ids=golden.title)
def test_reference_values(x64, case):
  with np.errstate(divide="ignore"):
    target = jnp.asarray(np.log(case["target"]))
  logits, labels = case["student_logits"], jnp.asarray(case["labels"])
  soft = kd.kd_loss(logits, target, temperature=case["temperature"])
  hard = cross_entropy.cross_entropy(jnp.asarray(logits), labels)
  ratio = case["ratio"]
  total = (1 - ratio) * jnp.mean(hard) + ratio * jnp.mean(soft)
  np.testing.assert_allclose(total, case["expected"], rtol=1e-10)


kd_loss = jax.jit(kd.kd_loss, static_argnames="temperature")


def test_soft_targets_by_hand():
  # At τ = 2 the odds are 1 : e : e².
  probs = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
  soft = kd.soft_targets(jnp.asarray([1.0, 3.0, 5.0]), 2.0)
  np.testing.assert_allclose(soft, np.log(probs), rtol=1e-6)


def test_loss_by_hand():
  # Student 1/2, 1/2; target 1/4, 3/4.
  target = jnp.log(jnp.asarray([[0.25, 0.75]]))
  expected = 9 * (0.25 * np.log(0.5) + 0.75 * np.log(1.5))
  loss = kd_loss(jnp.zeros((1, 2)), target, temperature=3.0)
  np.testing.assert_allclose(loss, [expected], rtol=1e-6)


@pytest.mark.parametrize("per_class", [False, True])
def test_the_term_may_be_divided_by_the_classes(per_class):
  # Student 1/3 each; target 1/4, 3/4 and an exact 0.
  target = jnp.log(jnp.asarray([[0.25, 0.75, 0.0]] * 2))
  inputs = DistillInputs(
    ModelOutput(jnp.zeros((2, 3)), ()),
    jnp.zeros(2, int),
    target_log_probs=target,
    temperature=2.0,
  )
  total, count = kd.Term(per_class=per_class).apply({}, inputs)
  rows = 2 * 4 * (0.25 * np.log(0.75) + 0.75 * np.log(2.25))
  np.testing.assert_allclose(total, rows / (3 if per_class else 1), rtol=1e-6)
  assert count == 2


def test_gradients_by_finite_differences(x64):
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.normal(size=(3, 5)))
  target = kd.soft_targets(jnp.asarray(rng.normal(size=(3, 5))), 1.0)
  check_grads(
    lambda s, t: kd_loss(s, t, temperature=3.0),
    (logits, target),
    order=1,
    modes=["rev"],
  )


def test_an_exact_zero_adds_nothing_either_way():
  logits = jnp.asarray([[1.0, 0.0, -2.0]])
  target = jnp.log(jnp.asarray([[0.25, 0.75, 0.0]]))

  def loss(s, t):
    return jnp.sum(kd_loss(s, t, temperature=1.0))

  value, (on_student, on_target) = jax.value_and_grad(loss, (0, 1))(
    logits, target
  )
  student = np.exp([1.0, 0.0, -2.0]) / np.exp([1.0, 0.0, -2.0]).sum()
  probs = np.asarray([0.25, 0.75, 0.0])
  gap = np.log(probs[:2] / student[:2])
  np.testing.assert_allclose(value, (probs[:2] * gap).sum(), rtol=1e-5)
  np.testing.assert_allclose(on_student, [student - probs], rtol=1e-5)
  np.testing.assert_allclose(
    on_target, [[*(probs[:2] * (gap + 1)), 0.0]], rtol=1e-5
  )


def test_a_student_that_excludes_what_the_target_excludes():
  logits = jnp.asarray([[0.0, 0.0, -jnp.inf]])
  target = jnp.log(jnp.asarray([[0.25, 0.75, 0.0]]))
  gradient = jax.grad(lambda s: jnp.sum(kd_loss(s, target, temperature=1.0)))(
    logits
  )
  np.testing.assert_allclose(gradient, [[0.25, -0.25, 0.0]], atol=1e-6)


def test_huge_logits_agree_with_float64():
  signs = np.asarray([[1.0, -1, -1, 1], [-1, 1, -1, -1], [1, -1, -1, -1]])
  golden.precise_agreement(
    lambda s, t: kd.kd_loss(s, kd.soft_targets(t, 1.0), temperature=1.0),
    120 * signs,
    -120 * signs,
  )


def test_identical_networks_have_no_loss_and_no_gradient(x64):
  logits = jnp.asarray(np.random.default_rng(1).normal(size=(4, 6)))
  target = kd.soft_targets(logits, 5.0)
  loss, back = jax.vjp(lambda s: kd_loss(s, target, temperature=5.0), logits)
  np.testing.assert_allclose(loss, 0, atol=1e-14)
  np.testing.assert_allclose(back(jnp.ones(4))[0], 0, atol=1e-14)


def test_float32_and_low_precision():
  rng = np.random.default_rng(2)
  student, teacher = rng.normal(size=(2, 4, 9)) * 3
  golden.precise_agreement(
    lambda s, t: kd.kd_loss(s, kd.soft_targets(t, 5.0), temperature=5.0),
    student,
    teacher,
  )
  half = jnp.asarray(student, jnp.bfloat16)
  assert kd_loss(half, half, temperature=5.0).dtype == jnp.float32
  assert jax.eval_shape(kd.soft_targets, half, 5.0).dtype == jnp.float32


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match=r"one shape \(N, C\)"):
    kd.kd_loss(jnp.ones((3, 2)), jnp.ones((1, 2)), temperature=1.0)
