"""The gate by hand: what it looks at, its two layers, who is trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax.adapters import gate
from amtml_jax.losses import mixture
from amtml_jax.types import ModelOutput

ROWS, CLASSES, TEACHERS, WIDTH = 5, 4, 3, 6


def example(rows=ROWS):
  """A student with maps of 2x2 pixels, and the teachers."""
  rng = np.random.default_rng(0)

  def output(width):
    logits = rng.normal(size=(rows, CLASSES)) * 3
    maps = rng.normal(size=(rows, 2, 2, width))
    return ModelOutput(
      jnp.asarray(logits, jnp.float32), (jnp.asarray(maps, jnp.float32),)
    )

  return output(WIDTH), tuple(output(2) for _ in range(TEACHERS))


def softmax(x):
  x = np.exp(x - x.max(-1, keepdims=True))
  return x / x.sum(-1, keepdims=True)


def by_hand(params, student, teachers):
  """The same net in numpy, row by row."""
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  weights = []
  for i in range(len(student.logits)):
    pixels = np.asarray(student.last[i], np.float64).reshape(4, WIDTH)
    said = [softmax(np.asarray(t.logits[i], np.float64)) for t in teachers]
    largest = pixels.max(0)
    seen = (largest - largest.mean()) / np.sqrt(largest.var() + 1e-5)
    x = np.concatenate([seen, *(s - 1 / CLASSES for s in said)])
    hidden = np.maximum(x @ p["hidden"]["kernel"] + p["hidden"]["bias"], 0)
    weights.append(
      softmax(hidden @ p["scores"]["kernel"] + p["scores"]["bias"])
    )
  return np.stack(weights)


def trained(adapter, arguments):
  """Parameters as training may leave them: no bias is 0."""
  params = jax.jit(adapter.init)(jax.random.key(1), *arguments)["params"]
  leaves, tree = jax.tree.flatten(params)
  rng = np.random.default_rng(2)
  moved = [x + rng.normal(size=x.shape).astype(np.float32) for x in leaves]
  return jax.tree.unflatten(tree, moved)


def test_weights_by_hand():
  arguments = example()
  adapter = gate.Adapter(num_teachers=TEACHERS, hidden=7)
  params = trained(adapter, arguments)
  assert jax.tree.map(jnp.shape, params) == {
    "hidden": {"kernel": (WIDTH + TEACHERS * CLASSES, 7), "bias": (7,)},
    "scores": {"kernel": (7, TEACHERS), "bias": (TEACHERS,)},
  }
  found = jax.jit(adapter.apply)({"params": params}, *arguments)
  expected = by_hand(params, *arguments)
  assert expected.std(axis=0).max() > 0.1  # the rows differ
  np.testing.assert_allclose(np.exp(found), expected, rtol=1e-4)


def test_evidence_is_the_largest_activations_and_each_teachers_probabilities():
  # The largest: 4, -2 and 4, of mean 2 and variance 8.
  feature_map = jnp.asarray([[[[1.0, -5.0, 4.0], [4.0, -2.0, 3.0]]]])
  seen = [0.5**0.5, -(2.0**0.5), 0.5**0.5]
  logits = jnp.log(jnp.asarray([[[1.0, 3.0]], [[4.0, 1.0]]]))
  found = gate.evidence(feature_map, logits)
  said = [-0.25, 0.25, 0.3, -0.3]
  np.testing.assert_allclose(found, [[*seen, *said]], rtol=1e-5)
  # √1 : √3 and √4 : √1.
  found = gate.evidence(feature_map, logits, temperature=2.0)
  said = [-0.133975, 0.133975, 1 / 6, -1 / 6]
  np.testing.assert_allclose(found, [[*seen, *said]], rtol=1e-5)


def test_channels_that_are_large_and_alike_are_no_nan():
  """E β² - (E β)² would be below 0 by rounding."""
  maps = 1e4 + np.random.default_rng(0).random((50, 1, 1, 64)) * 1e-2
  found = gate.evidence(jnp.asarray(maps, jnp.float32), jnp.ones((1, 50, 2)))
  assert np.all(np.isfinite(found))
  assert np.all(np.abs(found) < 10)


def test_only_the_parameters_receive_gradient():
  student, teachers = example()
  adapter = gate.Adapter(num_teachers=TEACHERS)
  params = jax.jit(adapter.init)(jax.random.key(0), student, teachers)

  def loss(params, student, teachers):
    log_weights = adapter.apply(params, student, teachers)
    said = jnp.stack([jax.nn.log_softmax(t.logits) for t in teachers])
    labels = jnp.arange(ROWS) % CLASSES
    return jnp.sum(mixture.mixture_loss(log_weights, said, labels))

  on_params, *on_rest = jax.jit(jax.grad(loss, (0, 1, 2)))(
    params, student, teachers
  )
  # At the start already: W₂ is small, not 0.
  assert all(np.any(g != 0) for g in jax.tree.leaves(on_params))
  assert not any(np.any(g != 0) for g in jax.tree.leaves(on_rest))


def test_weights_start_near_uniform():
  arguments = example(rows=200)
  adapter = gate.Adapter(num_teachers=TEACHERS)
  found, variables = jax.jit(adapter.init_with_output)(
    jax.random.key(0), *arguments
  )
  assert np.max(np.abs(np.exp(found) - 1 / 3)) < 0.15
  assert np.std(found) > 0.01  # and not exactly there
  kernel = variables["params"]["scores"]["kernel"]
  np.testing.assert_allclose(np.std(kernel), 0.1 / 32**0.5, rtol=0.2)


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match=r"teachers \(m, N, C\)"):
    gate.evidence(jnp.ones((4, 1, 1, 2)), jnp.ones((3, 5, 2)))
  with pytest.raises(ValueError, match=r"\(N, H, W, channels\)"):
    gate.evidence(jnp.ones((4, 2)), jnp.ones((3, 4, 2)))
