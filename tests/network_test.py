"""A network's start: redrawn convolutions and scales, and nothing else."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from amtml_jax import network

PARAMS = {
  "conv": {"kernel": jnp.full((3, 3, 40, 40), 7.0), "bias": jnp.full(3, 7.0)},
  "norm": {"scale": jnp.full(4000, 7.0), "bias": jnp.full(4000, 7.0)},
  "head": {"kernel": jnp.full((40, 5), 7.0)},
}


def test_convolutions_and_scales_are_redrawn():
  found = network.redrawn(PARAMS, jax.random.key(0), 0.02)
  kernel, scale = found["conv"]["kernel"], found["norm"]["scale"]
  np.testing.assert_allclose(np.std(kernel), 0.02, rtol=0.05)
  np.testing.assert_allclose(np.mean(kernel), 0.0, atol=0.001)
  np.testing.assert_allclose(np.std(scale), 0.02, rtol=0.05)
  np.testing.assert_allclose(np.mean(scale), 1.0, atol=0.002)
  for path in (("conv", "bias"), ("norm", "bias"), ("head", "kernel")):
    np.testing.assert_array_equal(found[path[0]][path[1]], 7.0)


def test_every_leaf_and_every_seed_draws_its_own():
  twice = {"a": PARAMS["conv"], "b": PARAMS["conv"]}
  found = network.redrawn(twice, jax.random.key(0), 1.0)
  again = network.redrawn(twice, jax.random.key(1), 1.0)
  a, b, c = (f["kernel"] for f in (found["a"], found["b"], again["a"]))
  assert np.mean(np.abs(a - b)) > 0.5
  assert np.mean(np.abs(a - c)) > 0.5


def test_a_network_starts_so_where_it_is_asked_to():
  def start(std):
    made = network.build("tests.tinynet", 3, (0.5,), (0.25,))
    made = dataclasses.replace(made, init_std=std)
    return made.init(jax.random.key(0), (8, 8, 1))

  plain, redrawn = start(0.0), start(0.02)
  assert jax.tree.map(jnp.shape, plain) == jax.tree.map(jnp.shape, redrawn)
  kernel = redrawn["params"]["Conv_1"]["kernel"]
  np.testing.assert_allclose(np.std(kernel), 0.02, rtol=0.2)
  assert np.std(plain["params"]["Conv_1"]["kernel"]) > 0.1
  np.testing.assert_array_equal(
    redrawn["params"]["Dense_0"]["kernel"], plain["params"]["Dense_0"]["kernel"]
  )
