"""The gates under long steps: their hidden units stay alive."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from amtml_jax.adapters import gate, log_gate
from amtml_jax.losses import mixture
from amtml_jax.types import ModelOutput

ROWS, CLASSES, WIDTH, TEACHERS = 256, 10, 32, 3


def example():
  """Teachers that are mostly right and sure, and a student's activations."""
  rng = np.random.default_rng(0)
  labels = rng.integers(0, CLASSES, ROWS)
  logits = rng.normal(size=(TEACHERS, ROWS, CLASSES)) * 2
  logits[:, np.arange(ROWS), labels] += 8 * (
    rng.random((TEACHERS, ROWS)) < 0.95
  )
  maps = np.abs(rng.normal(size=(ROWS, 1, 1, WIDTH))) * 3  # after a ReLU
  maps, logits = (jnp.asarray(x, jnp.float32) for x in (maps, logits))
  said = tuple(ModelOutput(z, ()) for z in logits)
  return ModelOutput(logits[0], (maps,)), said, labels


@pytest.mark.parametrize("module", [gate, log_gate])
def test_no_unit_dies_of_long_steps(module):
  student, teachers, labels = example()
  logits = jnp.stack([t.logits for t in teachers])
  log_probs = jax.nn.log_softmax(logits, axis=-1)
  seen = (
    gate.evidence(student.last, logits)
    if module is gate
    else log_gate.evidence(logits)
  )
  adapter = module.Adapter(TEACHERS)
  update = optax.chain(
    optax.clip_by_global_norm(5.0), optax.sgd(0.1, momentum=0.9)
  )

  def loss(params):
    log_weights = adapter.apply(params, student, teachers)
    return 10 * jnp.mean(mixture.mixture_loss(log_weights, log_probs, labels))

  def dead(key):
    """The share of units that answer to no row, after 100 steps."""
    params = adapter.init(key, student, teachers)

    def step(carry, _):
      params, state = carry
      change, state = update.update(jax.grad(loss)(params), state, params)
      return (optax.apply_updates(params, change), state), None

    first = params, update.init(params)
    (params, _), _ = jax.lax.scan(step, first, length=100)
    hidden = params["params"]["hidden"]
    units = seen @ hidden["kernel"] + hidden["bias"][None]
    return jnp.mean(jnp.all(units <= 0, axis=0))

  shares = jax.jit(jax.vmap(dead))(jax.random.split(jax.random.key(0), 8))
  # Of inputs that are not about 0 one in twenty, and one in seven, die.
  assert np.mean(shares) < 0.01
