"""Masks belong to examples and to layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax.dropout import ExampleDropout
from amtml_jax.errors import UserError
from amtml_jax.models import mlp

KEYS = jax.random.split(jax.random.key(0), 6)
ONES = jnp.ones((6, 1000))


def drop(x, keys, rate=0.8, site=0, train=True):
  return ExampleDropout(rate, site).apply({}, x, keys, train=train)


def test_an_example_keeps_its_mask_wherever_it_sits():
  order = np.array([4, 0, 3])
  whole = drop(ONES, KEYS)
  np.testing.assert_array_equal(drop(ONES[order], KEYS[order]), whole[order])
  assert (whole[0] != whole[1]).any()


def test_what_is_kept_is_scaled_up_to_the_same_mean():
  output = drop(ONES, KEYS)
  np.testing.assert_allclose(np.unique(output), [0.0, 5.0], rtol=1e-6)
  # 6000 draws of probability 0.2: the share kept is known to ±0.0052.
  assert abs((output > 0).mean() - 0.2) < 0.026


def test_every_site_has_a_mask_of_its_own():
  assert (drop(ONES, KEYS, site=1) != drop(ONES, KEYS, site=2)).any()


def test_the_layers_of_a_network_drop_different_units():
  # Identity weights: with one mask for both layers, every unit that the first
  # keeps would be kept by the second too.
  model = mlp.Model(16, hidden=(16, 16), dropout=0.5)
  image = jnp.ones((6, 4, 4, 1))
  shapes = jax.eval_shape(model.init, jax.random.key(0), image)
  params = jax.tree.map(
    lambda leaf: jnp.eye(16) if leaf.ndim == 2 else jnp.zeros(16),
    shapes["params"],
  )
  output = jax.jit(functools.partial(model.apply, train=True))(
    {"params": params}, image, keys=KEYS
  )
  first_kept = output.features[1][:, 0, 0] > 0
  dropped_by_second = first_kept & (output.logits == 0)
  assert dropped_by_second.any()
  # The features are those before dropout: the first layer's are all there.
  np.testing.assert_array_equal(output.features[0], jnp.ones((6, 1, 1, 16)))


def test_evaluation_drops_nothing_and_needs_no_keys():
  np.testing.assert_array_equal(drop(ONES, None, train=False), ONES)


@pytest.mark.parametrize("keys", [None, KEYS[:1], KEYS[0]])
def test_training_needs_one_key_an_example(keys):
  with pytest.raises(ValueError, match="one key an example"):
    drop(ONES, keys)


def test_a_rate_of_one_is_refused():
  with pytest.raises(UserError, match="rate"):
    drop(ONES, KEYS, rate=1.0)
