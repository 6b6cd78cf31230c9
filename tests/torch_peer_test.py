"""The PyTorch peer has our numbers: written apart, it checks the whole step."""

import copy
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip(
  "torch", reason="the PyTorch peer needs pip install -e '.[torch]'"
)

from amtml_jax import config, network, objective, optimizer, state, step  # noqa: E402
from amtml_jax.experiments import torch_networks, torch_peer  # noqa: E402
from amtml_jax.types import Batch  # noqa: E402
from tests.settings import blobs  # noqa: E402

PARTS = ("student", "adapter", "terms")
RATES = (0.1, 0.01, 5e-4)
N, CLASSES, SHAPE = 8, 5, (8, 8, 3)


@pytest.fixture(scope="module")
def ours():
  """Teachers' outputs, and what two steps give, in one program."""
  with jax.enable_x64(True):
    run = config.resolve(
      blobs(
        dtype="float64",
        student="resnet8_slim",
        terms__angle=1.0,
        terms__distance=0.5,
        terms__attention=2.0,
        terms__hint=1.0,
        hint__mapping="3,1",
        optimizer__learning_rate=RATES[0],
      )
    )
    build = functools.partial(
      network.build,
      num_classes=CLASSES,
      mean=(0.4, 0.5, 0.6),
      std=(0.2, 0.25, 0.3),
      dtype="float64",
    )
    teachers = (build("resnet8"), build("resnet8_slim"))
    goal = objective.build(run, run.terms, build(run.student), teachers, (1, 0))
    update = optimizer.build(run.optimizer, RATES[1], steps=10, epoch=5)
    keys = jax.random.split(jax.random.key(0), len(teachers))
    frozen = tuple(
      trained(t.init(key, SHAPE)) for key, t in zip(keys, teachers, strict=True)
    )
    start = functools.partial(
      state.init, goal, update, PARTS, seed=3, image_shape=SHAPE, ema=False
    )
    current = jax.jit(start)()
    rng = np.random.default_rng(0)
    batch = Batch(
      image=jnp.asarray(rng.integers(0, 256, (N, *SHAPE)), jnp.uint8),
      label=jnp.asarray(rng.integers(0, CLASSES, N), jnp.int32),
      example=jnp.arange(N, dtype=jnp.int32),
      mask=jnp.ones((N,)),
    )

    @jax.jit
    def one(current):
      said = goal.teach(frozen, batch.image)
      gradients, _, parts = step.gradients(goal, PARTS, current, said, batch)
      after, _ = step.train_step(goal, update, PARTS, 0.0, current, said, batch)
      return after, gradients, parts, said

    first, gradients, parts, taught = one(current)
    second = one(first)[0]
    peer = torch_peer.Peer(goal, current.params, current.batch_stats, frozen)
    return SimpleNamespace(**locals())


def trained(variables):
  """Scales and statistics as of a trained network: a mix-up of them shows."""
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda x: x + 0.1 * rng.uniform(size=x.shape) if x.ndim == 1 else x / 2,
    variables,
  )


def named(params):
  """A tree {student, adapter, terms} by the peer's names."""
  regressors = params["terms"]["hint"]
  return torch_networks.state_dict(
    {
      "student": params["student"],
      "adapter": params["adapter"],
      "regressors": {n.rpartition("_")[2]: p for n, p in regressors.items()},
    }
  )


def assert_close(ours, theirs):
  np.testing.assert_allclose(
    np.asarray(ours), theirs.detach().numpy(), rtol=1e-9, atol=1e-11
  )


@pytest.mark.parametrize("channels_last", [False, True])
def test_outputs_terms_gradients_and_two_steps_agree(ours, channels_last):
  peer = copy.deepcopy(ours.peer)
  side = torch_peer.Side(peer, RATES, channels_last=channels_last)
  image, label = side.batch(ours.batch.image, ours.batch.label)
  taught = side.taught(image)
  for own, (logits, stages) in zip(ours.taught, taught, strict=True):
    assert_close(own.logits, logits)
    for a, b in zip(own.stages, stages, strict=True):
      assert_close(np.moveaxis(a, -1, 1), b)
  total, terms = side.peer(image, label, taught)
  assert_close(ours.parts["loss"][0], total)
  assert set(terms) == {name for name, _, _ in ours.goal.terms}
  for name, value in terms.items():
    assert value > 1e-3
    assert_close(np.divide(*ours.parts[name]), value)
  total.backward()
  parameters = dict(peer.named_parameters())
  gradients = {n: p.grad for n, p in parameters.items() if p.requires_grad}
  expected = named(ours.gradients)
  assert set(expected) == set(gradients)
  for name, value in expected.items():
    assert_close(value, gradients[name])
  for _ in range(2):
    side.step(image, label)
  for name, value in named(ours.second.params).items():
    assert_close(value, parameters[name])
