"""The latent adapter: reference values, mixing in log space, gradients."""

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax.adapters import latent
from amtml_jax.losses import kd
from amtml_jax.types import ModelOutput


@pytest.mark.parametrize("case", golden.cases("weights"), ids=golden.title)
def test_reference_values(x64, case):
  found = jax.jit(latent.log_weights)(
    case["theta"],
    case["v"],
    latent.instance_representation(case["feature_map"]),
  )
  np.testing.assert_allclose(np.exp(found), case["expected"], rtol=1e-10)


def test_representation_is_the_largest_activation():
  feature_map = jnp.asarray(
    [[[[1.0, -5.0], [4.0, -2.0]], [[3.0, -9.0], [0.0, -3.0]]]]
  )
  found = latent.instance_representation(feature_map)
  np.testing.assert_array_equal(found, [[4.0, -2.0]])


def test_the_first_of_the_largest_gets_the_gradient():
  """Nothing is divided by how many are equal: that number may come out 0."""
  feature_map = jnp.asarray([[[[4.0], [1.0]], [[4.0], [4.0]]]])
  grad = jax.grad(lambda x: latent.instance_representation(x).sum())
  np.testing.assert_array_equal(grad(feature_map).ravel(), [1.0, 0.0, 0.0, 0.0])


def test_weights_by_hand():
  # γ = v·(θ∘β): 1·2·1 + 2·0·3 = 2 and 1·0·1 + 2·1·3 = 6.
  found = latent.log_weights(
    jnp.asarray([[2.0, 0.0], [0.0, 1.0]]),
    jnp.asarray([1.0, 2.0]),
    jnp.asarray([[1.0, 3.0]]),
  )
  odds = np.exp(-4.0)
  np.testing.assert_allclose(
    found, np.log([[odds / (1 + odds), 1 / (1 + odds)]]), rtol=1e-5
  )


def test_integration_by_hand_with_exact_zeros():
  weights = jnp.log(jnp.asarray([[0.25, 0.75], [1.0, 0.0]]))
  teachers = jnp.log(
    jnp.asarray(
      [
        [[0.5, 0.5, 0.0], [0.2, 0.8, 0.0]],
        [[0.9, 0.1, 0.0], [0.0, 0.5, 0.5]],
      ]
    )
  )
  (mixed, back) = jax.jit(lambda w, t: jax.vjp(latent.integrate, w, t))(
    weights, teachers
  )
  np.testing.assert_allclose(
    np.exp(mixed), [[0.8, 0.2, 0], [0.2, 0.8, 0]], rtol=1e-6
  )
  on_weights, on_teachers = back(jnp.asarray([[1.0, 0.0, 1.0], [1, 1, 1]]))
  # Row 0 asks for class 0: the teachers' shares 0.125/0.8 and 0.675/0.8.
  np.testing.assert_allclose(
    on_weights, [[0.15625, 0.84375], [2.0, 0.0]], rtol=1e-5
  )
  np.testing.assert_array_equal(on_teachers[:, 0, 2], 0)
  np.testing.assert_array_equal(on_teachers[1, 1], 0)


def test_the_path_through_the_target_survives_huge_logits():
  rng = np.random.default_rng(0)
  signs = rng.choice([-1.0, 1.0], size=(2, 3, 4, 5))
  theta, v = rng.normal(size=(3, 6)), rng.normal(size=6)
  representation = rng.normal(size=(4, 6))

  def loss(theta, v, representation, student):
    teachers = (120 * signs[1]).astype(theta.dtype)
    log_weights = latent.log_weights(theta, v, representation)
    target = latent.integrate(log_weights, kd.soft_targets(teachers, 1.0))
    return kd.kd_loss(student, target, temperature=1.0)

  golden.precise_agreement(loss, theta, v, representation, 120 * signs[0, 0])


def outputs(rows=3, width=4):
  rng = np.random.default_rng(1)
  feature = jnp.asarray(rng.normal(size=(rows, 2, 2, width)), jnp.float32)
  return ModelOutput(jnp.zeros((rows, 5)), (feature,))


def test_parameters_start_as_the_project_reads_the_paper():
  adapter = latent.Adapter(num_teachers=50)
  params = adapter.init(jax.random.key(0), outputs(width=64), ())["params"]
  np.testing.assert_allclose(params["v"], np.full(64, 0.125))
  assert params["theta"].shape == (50, 64)
  np.testing.assert_allclose(np.std(params["theta"]), 0.1, rtol=0.05)
  wide = latent.Adapter(num_teachers=50, init_scale=1.0)
  params = wide.init(jax.random.key(0), outputs(width=64), ())["params"]
  np.testing.assert_allclose(np.std(params["theta"]), 1.0, rtol=0.05)


def test_v_may_start_at_random():
  adapter = latent.Adapter(num_teachers=2, v_init_scale=1.0)
  params = adapter.init(jax.random.key(0), outputs(width=900), ())["params"]
  np.testing.assert_allclose(np.std(params["v"]), 1.0, rtol=0.1)
  assert abs(np.mean(params["v"])) < 0.1


@pytest.mark.parametrize(
  ("pooling", "beta"), [("max", [4.0, -2.0]), ("average", [2.0, -4.0])]
)
def test_the_map_is_pooled_by_its_largest_or_its_average(pooling, beta):
  maps = jnp.asarray([[[[1.0, -5.0], [4.0, -2.0]], [[3.0, -6.0], [0.0, -3.0]]]])
  student = ModelOutput(jnp.zeros((1, 2)), (maps,))
  adapter = latent.Adapter(num_teachers=2, pooling=pooling)
  theta, v = np.asarray([[0.5, 0.25], [0.0, 1.0]]), np.asarray([1.0, 2.0])
  params = {"theta": jnp.asarray(theta), "v": jnp.asarray(v)}
  found = adapter.apply({"params": params}, student, ())
  odds = np.exp((theta * v) @ np.asarray(beta))
  np.testing.assert_allclose(np.exp(found), [odds / odds.sum()], rtol=1e-5)


@pytest.mark.parametrize("held", [False, True])
def test_gradient_reaches_the_student_unless_it_is_held(held):
  adapter = latent.Adapter(num_teachers=3, stop_gradient_representation=held)
  student = outputs()
  params = adapter.init(jax.random.key(0), student, ())

  def first(params, student):
    return jnp.sum(adapter.apply(params, student, ())[:, 0])

  on_params, on_student = jax.jit(jax.grad(first, (0, 1)))(params, student)
  assert all(np.any(g != 0) for g in jax.tree.leaves(on_params))
  reached = np.any(on_student.features[0] != 0)
  assert reached == (not held)


def test_l2_by_hand():
  found = latent.l2(
    jnp.asarray([[1.0, 2.0], [0.0, 3.0]]), jnp.asarray([2.0, 1.0])
  )
  assert found == 19


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match=r"theta \(m, d\)"):
    latent.log_weights(jnp.ones((2, 3)), jnp.ones(4), jnp.ones((5, 3)))
  with pytest.raises(ValueError, match=r"teachers \(m, N, C\)"):
    latent.integrate(jnp.ones((4, 2)), jnp.ones((4, 2, 3)))
  with pytest.raises(ValueError, match=r"\(N, H, W, channels\)"):
    latent.instance_representation(jnp.ones((4, 2)))
