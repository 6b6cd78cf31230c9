"""The gate on log-probabilities by hand: what it looks at, who is trained."""

import jax
import jax.numpy as jnp
import numpy as np

from amtml_jax.adapters import log_gate
from amtml_jax.types import ModelOutput

LOGITS = np.random.default_rng(0).normal(size=(3, 5, 4)) * 4


def outputs(logits):
  """What teachers of these logits, and a student, give."""
  maps = (jnp.ones((logits.shape[1], 1, 1, 2)),)
  said = tuple(ModelOutput(jnp.asarray(z, jnp.float32), maps) for z in logits)
  return said[0], said


def test_evidence_is_each_teachers_log_probabilities_down_to_a_floor():
  logits = jnp.log(jnp.asarray([[[1.0, 3.0]], [[4.0, 1.0]]]))
  found = log_gate.evidence(logits)
  expected = (np.log([[0.25, 0.75, 0.8, 0.2]]) + 6) / 3
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  sure = jnp.asarray([[[0.0, 100.0]]])
  np.testing.assert_allclose(log_gate.evidence(sure), [[-2.0, 2.0]])


def test_weights_by_hand():
  student, teachers = outputs(LOGITS)
  adapter = log_gate.Adapter(num_teachers=3, hidden=7)
  params = jax.jit(adapter.init)(jax.random.key(0), student, teachers)["params"]
  rng = np.random.default_rng(1)
  params = jax.tree.map(lambda x: rng.normal(size=x.shape), params)
  assert params["hidden"]["kernel"].shape == (3 * 4, 7)
  found = jax.jit(adapter.apply)({"params": params}, student, teachers)
  shares = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=-1, keepdims=True)
  seen = (np.maximum(np.log(shares), -12) + 6) / 3
  seen = np.concatenate(list(seen), axis=-1)
  hidden, scores = params["hidden"], params["scores"]
  units = np.maximum(seen @ hidden["kernel"] + hidden["bias"], 0)
  raw = units @ scores["kernel"] + scores["bias"]
  expected = np.exp(raw) / np.exp(raw).sum(axis=-1, keepdims=True)
  assert expected.std(axis=0).max() > 0.1  # the rows differ
  np.testing.assert_allclose(np.exp(found), expected, rtol=1e-3)


def test_gradient_reaches_the_parameters_alone():
  student, teachers = outputs(LOGITS)
  adapter = log_gate.Adapter(num_teachers=3)
  params = jax.jit(adapter.init)(jax.random.key(0), student, teachers)

  def first(params, student, teachers):
    return jnp.sum(adapter.apply(params, student, teachers)[:, 0])

  gradient = jax.jit(jax.grad(first, (0, 1, 2)))
  on_params, *on_rest = gradient(params, student, teachers)
  assert all(np.any(g != 0) for g in jax.tree.leaves(on_params))
  assert not any(np.any(g != 0) for g in jax.tree.leaves(on_rest))
