"""The angle loss against reference values and a plain N×N×C oracle."""

import math
import re

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax.losses import angle
from amtml_jax.types import DistillInputs, ModelOutput

CASES = golden.cases("angle")
PARTS = golden.cases("parts")


def oracle(student, target, delta=1.0):
  """The formula as written, one N×N×C tensor a side."""

  def cosines(x):
    difference = x[:, None, :] - x[None, :, :]
    square = jnp.sum(difference**2, axis=-1, keepdims=True)
    same = square == 0
    unit = jnp.where(same, 0, difference / jnp.sqrt(jnp.where(same, 1, square)))
    return jnp.einsum("ijc,kjc->ijk", unit, unit)

  error = jnp.abs(cosines(target) - cosines(student))
  huber = jnp.where(error <= delta, error**2 / 2, delta * (error - delta / 2))
  return jnp.mean(huber)


def rows(n, c, seed, spread=1.0):
  rng = np.random.default_rng(seed)
  logits = spread * rng.normal(size=(n, c))
  probs = np.exp(logits - logits.max(-1, keepdims=True))
  return probs / probs.sum(-1, keepdims=True)


def both(function, student, target):
  value, gradient = jax.jit(jax.value_and_grad(function))(student, target)
  return np.asarray(value), np.asarray(gradient)


@pytest.mark.parametrize("case", CASES, ids=golden.title)
def test_reference_values(x64, case):
  student, target = jnp.asarray(case["student"]), jnp.asarray(case["target"])
  value, gradient = both(angle.angle_loss, student, target)
  np.testing.assert_allclose(value, case["expected"], rtol=1e-10, atol=1e-15)
  np.testing.assert_allclose(
    jax.jit(angle.angle_loss)(student, target), value, rtol=1e-14, atol=1e-30
  )
  _, expected = both(oracle, student, target)
  np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("case", CASES, ids=golden.title)
def test_float32_agrees(case):
  golden.precise_agreement(
    lambda s: angle.angle_loss(s, case["target"].astype(np.float32)),
    case["student"],
  )


@pytest.mark.parametrize(
  ("n", "c", "entries"),
  [(1, 3, 1), (2, 3, 1), (7, 4, 7 * 7 * 3), (9, 12, 10**6), (13, 5, 13 * 13)],
)
def test_any_number_of_rows_and_any_block(x64, monkeypatch, n, c, entries):
  monkeypatch.setattr(angle, "_CPU_ENTRIES", entries)
  delta = 0.05
  student, target = jnp.asarray(rows(n, c, 0)), jnp.asarray(rows(n, c, 1))
  value, gradient = both(
    lambda s, t: angle.angle_loss(s, t, delta=delta), student, target
  )
  expected = both(lambda s, t: oracle(s, t, delta), student, target)
  np.testing.assert_allclose(value, expected[0], rtol=1e-11, atol=1e-16)
  np.testing.assert_allclose(gradient, expected[1], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("gap", [1e-3, 1e-6])
def test_near_duplicates_in_float32(gap):
  student = rows(12, 6, 2).astype(np.float32)
  noise = np.random.default_rng(3).normal(size=(6, 6)) * gap
  student[6:] = student[:6] + noise.astype(np.float32)
  target = rows(12, 6, 4).astype(np.float32)
  value, gradient = both(angle.angle_loss, student, target)
  with jax.enable_x64(True):
    expected = both(
      oracle, student.astype(np.float64), target.astype(np.float64)
    )
  np.testing.assert_allclose(value, expected[0], rtol=1e-5)
  scale = np.abs(expected[1]).max()
  np.testing.assert_allclose(
    gradient, expected[1], rtol=1e-4, atol=1e-6 * scale
  )


def test_duplicates_give_the_subgradient_zero():
  student = np.repeat(rows(1, 5, 5), 4, axis=0).astype(np.float32)
  _, gradient = both(angle.angle_loss, student, rows(4, 5, 6).astype("f4"))
  np.testing.assert_array_equal(gradient, 0)


def test_the_target_receives_no_gradient():
  student, target = rows(6, 4, 7), rows(6, 4, 8)
  gradient = jax.jit(jax.grad(angle.angle_loss, argnums=1))(
    jnp.asarray(student, jnp.float32), jnp.asarray(target, jnp.float32)
  )
  np.testing.assert_array_equal(gradient, 0)


def test_order_scale_and_shift_of_rows_do_not_matter(x64):
  student, target = rows(7, 4, 9), rows(7, 4, 10)
  order = np.random.default_rng(0).permutation(7)
  loss = jax.jit(angle.angle_loss)
  value = loss(student, target)
  for same in (
    loss(student[order], target[order]),
    loss(3 * student + 0.5, target),
  ):
    np.testing.assert_allclose(same, value, rtol=1e-12)


def test_under_vmap(x64):
  student = jnp.stack([rows(5, 4, seed) for seed in range(3)])
  target = jnp.stack([rows(5, 4, seed) for seed in range(3, 6)])
  value, gradient = jax.jit(jax.vmap(jax.value_and_grad(angle.angle_loss)))(
    student, target
  )
  expected = jax.jit(jax.vmap(jax.value_and_grad(oracle)))(student, target)
  np.testing.assert_allclose(value, expected[0], rtol=1e-11)
  np.testing.assert_allclose(gradient, expected[1], rtol=1e-9, atol=1e-15)


def test_shares_of_the_vertices_add_up(x64):
  student, target = jnp.asarray(rows(7, 4, 11)), jnp.asarray(rows(7, 4, 12))

  def shares(s):
    parts = (slice(0, 3), slice(3, 7))
    return (
      sum(angle.vertex_sum(s[p], s, target[p], target) for p in parts) / 7**3
    )

  value, gradient = jax.jit(jax.value_and_grad(shares))(student)
  expected = both(oracle, student, target)
  np.testing.assert_allclose(value, expected[0], rtol=1e-11)
  np.testing.assert_allclose(gradient, expected[1], rtol=1e-9, atol=1e-15)


def test_memory_is_quadratic():
  n, c = 96, 64
  student, target = jnp.ones((n, c)), jnp.ones((n, c))
  _, pullback = jax.vjp(lambda s: angle.angle_loss(s, target), student)
  assert max(x.size for x in jax.tree.leaves(pullback)) <= n * c
  program = jax.jit(jax.value_and_grad(angle.angle_loss)).lower(student, target)
  shapes = re.findall(r"tensor<((?:\d+x)+)f32>", program.as_text())
  largest = max(math.prod(map(int, s[:-1].split("x"))) for s in shapes)
  assert largest == n * n


def test_nothing_but_the_value_is_computed_without_a_gradient():
  n, c = 64, 8
  rows_ = jnp.ones((n, c))
  alone = jax.jit(angle.angle_loss).lower(rows_, rows_)
  graded = jax.jit(jax.value_and_grad(angle.angle_loss)).lower(rows_, rows_)
  assert alone.as_text().count("dot_general") == 2
  assert graded.as_text().count("dot_general") == 3


def test_low_precision_is_promoted():
  half = jnp.asarray(rows(6, 4, 13), jnp.bfloat16)
  target = jnp.asarray(rows(6, 4, 14), jnp.bfloat16)
  value, gradient = both(angle.angle_loss, half, target)
  expected = jax.jit(oracle)(
    half.astype(jnp.float32), target.astype(jnp.float32)
  )
  assert value.dtype == jnp.float32
  assert gradient.dtype == jnp.bfloat16
  np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match=r"one shape \(N, C\)"):
    angle.angle_loss(jnp.ones((3, 2)), jnp.ones((3, 4)))
  with pytest.raises(ValueError, match=r"one shape \(N, C\)"):
    angle.angle_loss(jnp.ones(3), jnp.ones(3))
  with pytest.raises(ValueError, match="positive delta"):
    angle.angle_loss(jnp.ones((3, 2)), jnp.ones((3, 2)), delta=0.0)


def test_four_replicas_share_the_triples_work(monkeypatch):
  """The compiled work of each, the gradient's gathers and all."""
  # One block: the analysis counts a loop's body once, however often it runs.
  monkeypatch.setattr(angle, "_CPU_ENTRIES", 2**30)

  def flops(devices):
    def gradient(logits):
      def loss(logits):
        output = ModelOutput(logits, ())
        inputs = DistillInputs(
          output, None, target_log_probs=logits, axis="replicas"
        )
        return angle.Term().apply({}, inputs)[0]

      return jax.value_and_grad(loss)(logits)

    lifted = jax.pmap(
      gradient, axis_name="replicas", devices=jax.devices()[:devices]
    )
    compiled = lifted.lower(jnp.ones((devices, 64 // devices, 10))).compile()
    analysis = compiled.cost_analysis()
    return (analysis[0] if isinstance(analysis, list) else analysis)["flops"]

  assert flops(4) == pytest.approx(flops(1) / 4, rel=0.1)
