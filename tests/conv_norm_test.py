"""A convolution and its batch norm in one, by hand and by shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax import conv_norm, network
from amtml_jax.conv_norm import ConvNorm, fold

PAIR = {
  "conv": {"kernel": np.full((1, 1, 1, 2), 3.0, np.float32)},
  "norm": {"scale": np.array([4.0, -1.0]), "bias": np.array([5.0, 0.5])},
}
# √(var + ε) is 2 and 1.
STATS = {
  "norm": {
    "mean": np.array([1.0, -2.0]),
    "var": np.array([4.0, 1.0]) - conv_norm.EPSILON,
  }
}


def test_a_pair_by_hand():
  params, stats = fold({"a": PAIR}, {"a": STATS}, np.float32)
  # 3·4/2 and 3·(-1)/1; 5 - 1·4/2 and 0.5 - (-2)·(-1)/1.
  np.testing.assert_array_equal(params["a"]["conv"]["kernel"][0, 0, 0], [6, -3])
  np.testing.assert_array_equal(params["a"]["conv"]["bias"], [3.0, -1.5])
  assert params["a"]["conv"]["kernel"].dtype == np.float32
  assert stats == {}


def test_a_bias_before_the_norm_by_hand():
  conv = {**PAIR["conv"], "bias": np.array([0.5, 2.0], np.float32)}
  pair = {**PAIR, "conv": conv}
  params, _ = fold({"a": pair}, {"a": STATS}, np.float32)
  # 5 + (0.5 - 1)·4/2 and 0.5 + (2 + 2)·(-1)/1.
  np.testing.assert_array_equal(params["a"]["conv"]["bias"], [4.0, -3.5])


def test_what_is_no_pair_stays():
  # A batch norm before its convolution, and one that stands alone.
  before = {"norm1": PAIR["norm"], "conv1": PAIR["conv"]}
  alone = {"norm": PAIR["norm"]}
  params = {"a": before, "b": alone, "head": {"bias": np.ones(2)}, "p": PAIR}
  kept = {"a": {"norm1": STATS["norm"]}, "b": STATS}
  folded, stats = fold(params, {**kept, "p": STATS}, np.float32)
  assert {k: v for k, v in folded.items() if k != "p"} == {
    k: v for k, v in params.items() if k != "p"
  }
  assert stats == kept


@pytest.mark.parametrize(("size", "stride", "groups"), [(1, 2, 1), (5, 1, 2)])
def test_every_kind_of_kernel(size, stride, groups):
  draw = np.random.default_rng(0)
  x = jnp.asarray(draw.normal(size=(2, 6, 6, 4)), jnp.float32)
  layer = ConvNorm(6, stride, size, groups)
  variables = jax.tree.map(
    lambda s: draw.uniform(0.5, 2.0, s.shape).astype(np.float32),
    jax.eval_shape(lambda k: layer.init(k, x, train=False), jax.random.key(0)),
  )
  whole = layer.apply(variables, x, train=False)
  params, _ = fold(variables["params"], variables["batch_stats"], np.float32)
  one = layer.clone(folded=True)
  again = one.apply({"params": params}, x, train=False)
  np.testing.assert_allclose(again, whole, rtol=1e-5, atol=1e-4)
  with pytest.raises(ValueError, match="frozen"):
    one.apply({"params": params}, x, train=True)


def test_a_network_that_knows_nothing_of_folding_stays():
  own = network.build("tests.tinynet", 3, (0.0,), (1.0,))
  variables = {"params": {"conv": 1, "norm": 2}, "batch_stats": {"norm": 3}}
  assert own.folded(variables) == (own, variables)


def test_a_float64_run_folds_in_float64(x64):
  built = network.build("resnet8_slim", 3, (0.0,), (1.0,), dtype="float64")
  shapes = jax.eval_shape(lambda k: built.init(k, (8, 8, 1)), jax.random.key(0))
  # Teachers that were trained in float32.
  variables = jax.tree.map(lambda s: np.full(s.shape, 0.3, np.float32), shapes)
  _, folded = built.folded(variables)
  kernel = folded["params"]["stem"]["conv"]["kernel"]
  third = np.float64(np.float32(0.3))
  expected = third * third / np.sqrt(third + 1e-5)
  np.testing.assert_allclose(kernel, expected, rtol=1e-14)
