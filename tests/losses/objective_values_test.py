"""The high-level losses and the whole objective against reference values."""

import functools

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax.adapters import confidence, entropy, latent
from amtml_jax.losses import angle, cross_entropy, distance, hint, kd, mixture

PARTS = golden.cases("parts")
OBJECTIVES = golden.cases("objective")
FLOATS = ("student_logits", "teacher_logits", "student_last", "theta", "v")


@functools.partial(jax.jit, static_argnames=("tau", "ratio"))
def pieces(
  student_logits, teacher_logits, student_last, theta, v, labels, *, tau, ratio
):
  """Everything high-level of a case."""
  representation = latent.instance_representation(student_last)
  log_weights = latent.log_weights(theta, v, representation)
  target = latent.integrate(log_weights, kd.soft_targets(teacher_logits, tau))
  hard = cross_entropy.cross_entropy(student_logits, labels)
  soft = kd.kd_loss(student_logits, target, temperature=tau)
  probs = jnp.exp(kd.soft_targets(student_logits, tau))
  plain = kd.soft_targets(teacher_logits, 1.0)
  mixed = mixture.mixture_loss(log_weights, plain, labels)
  return {
    "weights": jnp.exp(log_weights),
    "target": jnp.exp(target),
    "kd": (1 - ratio) * jnp.mean(hard) + ratio * jnp.mean(soft),
    "angle": angle.angle_loss(probs, jnp.exp(target)),
    "distance": distance.distance_loss(probs, jnp.exp(target)),
    "entropy_weights": jnp.exp(entropy.log_weights(plain)),
    "confidence_weights": jnp.exp(confidence.log_weights(plain, labels)),
    "mixture": jnp.mean(mixed),
  }


def of(case, *arrays):
  labels = jnp.asarray(case["labels"], jnp.int32)
  return pieces(*arrays, labels, tau=case["temperature"], ratio=case["ratio"])


@pytest.mark.parametrize("case", PARTS + OBJECTIVES, ids=golden.title)
def test_values(x64, case):
  found = of(case, *[case[name] for name in FLOATS])
  expected = case["expected"]
  for name in found.keys() & expected.keys():
    np.testing.assert_allclose(found[name], expected[name], 1e-10, 1e-13)


@pytest.mark.parametrize("case", PARTS, ids=golden.title)
def test_gradients(x64, case):
  fixed = [case[name] for name in FLOATS]

  def of_kd(student_logits, theta):
    return of(case, student_logits, *fixed[1:3], theta, fixed[4])["kd"]

  on_student, on_theta = jax.jit(jax.grad(of_kd, (0, 1)))(fixed[0], fixed[3])
  expected = case["expected"]
  close = {"rtol": 1e-6, "atol": 1e-8}
  np.testing.assert_allclose(
    on_student, expected["grad_kd_student_logits"], **close
  )
  np.testing.assert_allclose(on_theta, expected["grad_kd_theta"], **close)
  if expected["grad_angle_student_probs"] is not None:
    probs = jax.nn.softmax(case["student_logits"] / case["temperature"])
    on_probs = jax.jit(jax.grad(angle.angle_loss))(probs, expected["target"])
    np.testing.assert_allclose(
      on_probs, expected["grad_angle_student_probs"], **close
    )


@pytest.mark.parametrize("case", PARTS + OBJECTIVES, ids=golden.title)
def test_float32_agrees(case):
  rounded = [case[name].astype(np.float32) for name in FLOATS]
  single = of(case, *rounded)
  with jax.enable_x64(True):
    double = of(case, *[x.astype(np.float64) for x in rounded])
  for name, value in single.items():
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, double[name], 1e-5, golden.FLOOR)


@pytest.mark.parametrize("case", OBJECTIVES, ids=golden.title)
def test_totals(x64, case):
  expected = case["expected"]
  found = of(case, *[case[name] for name in FLOATS])
  hints = sum(
    hint.hint_loss(group @ kernel, last)
    for group, kernel, last in zip(
      case["student_groups"], case["kernels"], case["teacher_last"], strict=True
    )
  )
  np.testing.assert_allclose(hints, expected["hint"], rtol=1e-10)
  total = found["kd"] + case["alpha"] * found["angle"] + case["beta"] * hints
  np.testing.assert_allclose(total, expected["total"], rtol=1e-10)
