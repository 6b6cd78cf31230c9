"""Fixed expectations by hand, on networks with constant logits."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax import objective, parallel
from amtml_jax.adapters import confidence, latent
from amtml_jax.evaluate import ADAPTIVE, STUDENT, UNIFORM, Evaluator, gaps
from amtml_jax.network import Network
from amtml_jax.types import Dataset, ModelOutput


class Constant(nn.Module):
  """The same probabilities for every image."""

  probabilities: tuple[float, ...]
  param_dtype: type = jnp.float32

  def __call__(self, x, *, train=False, keys=None):
    logits = jnp.log(jnp.asarray(self.probabilities))
    logits = jnp.tile(logits[None], (x.shape[0], 1))
    return ModelOutput(logits, (jnp.ones((x.shape[0], 1, 1, 2)),))


def network(name, *probabilities):
  return Network(name, name, Constant(probabilities), (0.0,), (1.0,))


def evaluate(adapter, devices):
  goal = objective.Objective(
    network("s", 0.5, 0.3, 0.2),
    (network("a", 0.1, 0.7, 0.2), network("b", 0.6, 0.2, 0.2)),
    adapter,
    (),
    temperature=5.0,
  )
  # 10 images in batches of 4: the last one is padded.
  label = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2], np.int32)
  data = Dataset(np.zeros((10, 1, 1, 1), np.uint8), label, ("x", "y", "z"))
  evaluator = Evaluator(goal, parallel.replicas(devices), 4)
  # scores: v·θ_t·β = 2 v_0 θ_t0 = log 3 and 0, so the weights are 3/4 and 1/4.
  params = {
    "v": jnp.array([1.0, 0.0]),
    "theta": jnp.array([[np.log(3.0), 0.0], [0.0, 0.0]], jnp.float32),
  }
  return evaluator(({}, params, ({}, {})), evaluator.place(data))


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_by_hand(devices):
  found = evaluate(latent.Adapter(2), devices)
  mixture = np.array([0.1 * 0.75 + 0.6 * 0.25, 0.7 * 0.75 + 0.2 * 0.25, 0.2])
  even = np.array([0.35, 0.45, 0.2])
  share = np.array([0.5, 0.3, 0.2])
  expected = {
    STUDENT: (0.5, [0.5, 0.3, 0.2]),
    "teachers.a": (0.3, [0.1, 0.7, 0.2]),
    "teachers.b": (0.5, [0.6, 0.2, 0.2]),
    UNIFORM: (0.3, even),
    ADAPTIVE: (0.3, mixture),
  }
  for who, (accuracy, probabilities) in expected.items():
    np.testing.assert_allclose(found[who]["accuracy"], accuracy, rtol=1e-6)
    np.testing.assert_allclose(
      found[who]["cross_entropy"], -share @ np.log(probabilities), rtol=1e-5
    )
    # Every image has the same confidence, so that one bin has them all.
    error = abs(accuracy - max(probabilities))
    np.testing.assert_allclose(
      found[who]["calibration_error"], error, rtol=1e-5, atol=1e-7
    )
  # The student says x of every image, the uniform ensemble y.
  assert found[STUDENT]["agreement"] == 0.0
  assert "agreement" not in found[UNIFORM]
  assert found["weights"] == pytest.approx({"a": 0.75, "b": 0.25}, rel=1e-6)
  entropy = -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
  np.testing.assert_allclose(found["weights_entropy"], entropy, rtol=1e-5)


def test_gaps_by_hand():
  # Bins end at 1/15 = 0.0667, ..., 6/15 = 0.4, ..., 1; the last row is padding.
  confidence = jnp.array([0.35, 0.38, 0.41, 0.97, 1.0, 0.9])
  hit = jnp.array([1.0, 0.0, 0.0, 1.0, 0.0, 1.0])
  found = gaps(confidence, hit, jnp.array([1.0, 1, 1, 1, 1, 0]))
  expected = np.zeros(15)
  expected[5] = (1 - 0.35) + (0 - 0.38)
  expected[6] = 0 - 0.41
  expected[14] = (1 - 0.97) + (0 - 1.0)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_an_adapter_that_needs_labels_has_no_mixture_here():
  found = evaluate(confidence.Adapter(2), 1)
  assert ADAPTIVE not in found
  assert "weights" not in found


def test_entropy_of_certain_weights_is_zero_with_zero_gradient():
  log_weights = jnp.array([[0.0, -jnp.inf], [jnp.log(0.5), jnp.log(0.5)]])
  np.testing.assert_allclose(
    objective.entropy(log_weights), [0.0, np.log(2.0)], rtol=1e-6
  )
  gradient = jax.grad(lambda w: jnp.sum(objective.entropy(w)))(log_weights)
  np.testing.assert_allclose(gradient[0], [-1.0, 0.0], atol=1e-6)
