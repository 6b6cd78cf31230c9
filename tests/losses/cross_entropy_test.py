"""Cross-entropy with labels, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax.losses import cross_entropy
from amtml_jax.types import DistillInputs, ModelOutput

LOGITS = jnp.log(jnp.asarray([[1.0, 3.0], [1.0, 1.0]]))
LABELS = jnp.asarray([0, 1])


def test_value_and_gradient_by_hand():
  loss, back = jax.vjp(lambda z: cross_entropy.cross_entropy(z, LABELS), LOGITS)
  np.testing.assert_allclose(loss, np.log([4.0, 2.0]), rtol=1e-6)
  np.testing.assert_allclose(
    back(jnp.ones(2))[0], [[-0.75, 0.75], [0.5, -0.5]], rtol=1e-6
  )


def test_huge_logits():
  logits = jnp.asarray([[120.0, -120.0]])
  loss, back = jax.vjp(
    lambda z: cross_entropy.cross_entropy(z, jnp.asarray([1])), logits
  )
  np.testing.assert_allclose(loss, [240.0])
  np.testing.assert_allclose(back(jnp.ones(1))[0], [[1.0, -1.0]])


@pytest.mark.parametrize("softened", [False, True])
def test_the_term_is_softened_by_the_temperature(softened):
  # log [1, 9] / 2 is log [1, 3].
  logits = jnp.log(jnp.asarray([[1.0, 9.0], [1.0, 1.0]]))
  inputs = DistillInputs(ModelOutput(logits, ()), LABELS, temperature=2.0)
  total, count = cross_entropy.Term(softened=softened).apply({}, inputs)
  first = np.log(4.0 if softened else 10.0)
  np.testing.assert_allclose(total, first + np.log(2.0), rtol=1e-6)
  assert count == 2


def test_low_precision_is_promoted_and_shapes_are_checked():
  half = LOGITS.astype(jnp.bfloat16)
  assert cross_entropy.cross_entropy(half, LABELS).dtype == jnp.float32
  with pytest.raises(ValueError, match=r"logits \(N, C\)"):
    cross_entropy.cross_entropy(LOGITS, LABELS[:1])
