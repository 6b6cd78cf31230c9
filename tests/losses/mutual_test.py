"""What students say to each other, against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax.losses import mutual

LOGITS = np.array([[1.0, 0.0, -2.0], [0.5, 3.0, 0.0]])
PEERS = np.array([[[0.2, 0.5, 0.3], [0.1, 0.8, 0.1]], [[0.6, 0.4, 0.0]] * 2])


def divergence(logits, peers):
  """Plain loops over peers, rows and classes, in probabilities."""
  own = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  rows = []
  for i, row in enumerate(own):
    total = 0.0
    for peer in peers:
      for p, q in zip(peer[i], row, strict=True):
        total += p * np.log(p / q) if p else 0.0
    rows.append(total / len(peers))
  return np.array(rows)


def with_own(logits, peers):
  own = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  with np.errstate(divide="ignore"):
    return np.log(np.concatenate([peers, own[None]]))


def test_against_loops(x64):
  found = mutual.mutual_loss(LOGITS, with_own(LOGITS, PEERS))
  np.testing.assert_allclose(found, divergence(LOGITS, PEERS), rtol=1e-12)


def test_gradient_is_the_students_alone(x64):
  said = with_own(LOGITS, PEERS)
  by_student, by_peers = jax.grad(
    lambda z, s: jnp.sum(mutual.mutual_loss(z, s)), (0, 1)
  )(LOGITS, said)
  np.testing.assert_array_equal(by_peers, 0)
  # d KL(p ‖ softmax z) / dz = softmax z - p, the mean over the two peers.
  own = np.exp(said[-1])
  np.testing.assert_allclose(by_student, own - PEERS.mean(0), atol=1e-12)


@pytest.mark.parametrize("said", [np.zeros((1, 2, 3)), np.zeros((2, 3, 3))])
def test_shapes_are_checked(said):
  with pytest.raises(ValueError, match="of two peers or more"):
    mutual.mutual_loss(LOGITS, said)
