"""The angle loss against reference values and a plain N×N×C oracle."""

import math
import re

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax import near_legs, parallel, triples
from amtml_jax.losses import angle
from amtml_jax.types import DistillInputs, ModelOutput

CASES = golden.cases("angle")
SIDES = ("student", "target")


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
  ("n", "c", "unroll", "entries", "crowded"),
  [
    *((1, 3, 8, 1, 8), (2, 3, 1, 1, 8), (7, 4, 3, 56, 8), (7, 4, 3, 56, 0)),
    *((9, 12, 4, 10**6, 1), (13, 5, 4, 1, 0), (13, 5, 4, 1, 99)),
  ],
)
def test_any_number_of_rows_and_any_block(
  x64, monkeypatch, n, c, unroll, entries, crowded
):
  monkeypatch.setattr(triples, "_CPU_UNROLL", unroll)
  monkeypatch.setattr(near_legs, "_CPU_ENTRIES", entries)
  monkeypatch.setattr(near_legs, "_CROWDED", crowded)
  delta = 0.05
  student, target = rows(n, c, 0), rows(n, c, 1)
  # Two near legs at one vertex, and one that is near on one side alone.
  student[1:3] = student[:1] + 1e-3 * (student[1:3] - student[:1])
  target[-1:] = target[:1] + 1e-3 * (target[-1:] - target[:1])
  student, target = jnp.asarray(student), jnp.asarray(target)
  value, gradient = both(
    lambda s, t: angle.angle_loss(s, t, delta=delta), student, target
  )
  expected = both(lambda s, t: oracle(s, t, delta), student, target)
  np.testing.assert_allclose(value, expected[0], rtol=1e-11, atol=1e-16)
  np.testing.assert_allclose(gradient, expected[1], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("gap", [1e-3, 1e-6])
@pytest.mark.parametrize(("n", "c"), [(13, 2), (37, 300)])
def test_near_duplicates_in_float32(gap, n, c):
  student = rows(n, c, 2).astype(np.float32)
  half = min(16, n // 2)
  noise = np.random.default_rng(3).normal(size=(half, c))
  noise *= gap / np.linalg.norm(noise, axis=-1, keepdims=True)
  student[half : 2 * half] = student[:half] + noise.astype(np.float32)
  target = rows(n, c, 4).astype(np.float32)
  value, gradient = both(angle.angle_loss, student, target)
  with jax.enable_x64(True):
    expected = both(
      oracle, student.astype(np.float64), target.astype(np.float64)
    )
  np.testing.assert_allclose(value, expected[0], rtol=1e-5, atol=1e-9)
  scale = np.abs(expected[1]).max()
  np.testing.assert_allclose(
    gradient, expected[1], rtol=1e-4, atol=1e-6 * scale
  )


@pytest.mark.parametrize("crowded", [0, 8, 99])
@pytest.mark.parametrize("sharpness", [1, 8, 30])
def test_clusters_and_confident_rows_in_float32(
  sharpness, crowded, monkeypatch
):
  """Most legs are near, at every scale from 1e-1 to 1e-20."""
  monkeypatch.setattr(near_legs, "_CROWDED", crowded)
  student, target = (
    rows(33, 5, seed, spread=sharpness).astype(np.float32) for seed in (5, 6)
  )
  value, gradient = both(angle.angle_loss, student, target)
  with jax.enable_x64(True):
    expected = both(
      oracle, student.astype(np.float64), target.astype(np.float64)
    )
  np.testing.assert_allclose(value, expected[0], rtol=1e-5)
  distance = np.linalg.norm(gradient.astype(np.float64) - expected[1])
  assert distance <= 1e-5 * np.linalg.norm(expected[1])


def test_duplicates_give_the_subgradient_zero():
  student = np.repeat(rows(1, 5, 5), 4, axis=0).astype(np.float32)
  _, gradient = both(angle.angle_loss, student, rows(4, 5, 6).astype("f4"))
  np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("side", ["student", "target"])
def test_duplicates_among_others(side):
  sides = {s: rows(9, 5, i).astype(np.float32) for i, s in enumerate(SIDES)}
  sides[side][5:8] = sides[side][:3]
  value, gradient = both(angle.angle_loss, *sides.values())
  with jax.enable_x64(True):
    expected = both(oracle, *(x.astype(np.float64) for x in sides.values()))
  np.testing.assert_allclose(value, expected[0], rtol=1e-5)
  np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-6)


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
  student, target = jnp.asarray(rows(8, 4, 11)), jnp.asarray(rows(8, 4, 12))
  student = student.at[5].set(student[0] + 1e-4)

  def shares(s):
    halves = (x.reshape(2, 4, 4) for x in (s, target))
    lifted = jax.vmap(
      lambda *x: angle.vertex_sum(*x, axis="half"), axis_name="half"
    )
    return jnp.sum(lifted(*halves)) / 8**3

  value, gradient = jax.jit(jax.value_and_grad(shares))(student)
  expected = both(oracle, student, target)
  np.testing.assert_allclose(value, expected[0], rtol=1e-11)
  np.testing.assert_allclose(gradient, expected[1], rtol=1e-9, atol=1e-15)


def test_memory_is_quadratic():
  n, c = 96, 64
  student, target = jnp.ones((n, c)), jnp.ones((n, c))
  _, pullback = jax.vjp(lambda s: angle.angle_loss(s, target), student)
  assert max(x.size for x in jax.tree.leaves(pullback)) <= n * n
  program = jax.jit(jax.value_and_grad(angle.angle_loss)).lower(student, target)
  shapes = re.findall(r"tensor<((?:\d+x)+)f32>", program.as_text())
  largest = max(math.prod(map(int, s[:-1].split("x"))) for s in shapes)
  assert n * n <= largest <= near_legs._CPU_ENTRIES


def test_memory_of_a_large_batch():
  row = jax.ShapeDtypeStruct((1024, 100), jnp.float32)
  program = jax.jit(jax.value_and_grad(angle.angle_loss)).lower(row, row)
  assert program.compile().memory_analysis().temp_size_in_bytes <= 400e6


def test_one_program_whatever_the_rows():
  """Near legs or none: what the data decides is how often a loop runs."""
  loss = jax.jit(lambda s, t: angle.angle_loss(s, t))
  student, target = rows(9, 4, 0), rows(9, 4, 1)
  loss(student, target)
  loss(np.repeat(student[:3], 3, axis=0) + 1e-6 * student, target)
  assert loss._cache_size() == 1


def test_no_gradient_no_products():
  n, c = 64, 8
  rows_ = jnp.ones((n, c))
  alone = jax.jit(angle.angle_loss).lower(rows_, rows_).as_text()
  graded = jax.jit(jax.value_and_grad(angle.angle_loss)).lower(rows_, rows_)
  # The cosines of near legs, and of crowded vertices; the rest pull back.
  assert alone.count("dot_general") == 2
  assert graded.as_text().count("dot_general") == 9


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


@pytest.mark.parametrize("lift", ["pmap", "jit"])
def test_four_replicas_share_the_triples_work(lift, monkeypatch):
  """The compiled work of each, the gradient's gathers and all."""
  # The analysis counts a loop's body once, however often it runs: no loop for
  # the sums, the fewest near legs a step, and no vertex crowded by them.
  monkeypatch.setattr(triples, "_on_cpu", lambda: False)
  monkeypatch.setattr(near_legs, "_CPU_ENTRIES", 1)
  monkeypatch.setattr(near_legs, "_for_vertices", lambda step, carry, _: carry)

  def flops(devices):
    replicas = parallel.replicas(devices, lift)

    def gradient(variables, shared, logits):
      def loss(logits):
        output = ModelOutput(logits, ())
        inputs = DistillInputs(
          output, None, target_log_probs=logits, axis=replicas.axis
        )
        return angle.Term().apply({}, inputs)[0]

      return jax.grad(loss)(logits)

    lifted = replicas.lift_sums(gradient)
    logits = replicas.shard(np.ones((64, 10), np.float32))
    analysis = lifted.lower((), (), logits).compile().cost_analysis()
    return (analysis[0] if isinstance(analysis, list) else analysis)["flops"]

  assert flops(4) == pytest.approx(flops(1) / 4, rel=0.1)


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
  total, count = jax.jit(angle.Term(log_student=True).apply)({}, inputs)
  expected = oracle(jnp.asarray(np.log(probs)), jnp.asarray(target))
  np.testing.assert_allclose(total / count, expected, rtol=1e-9)
