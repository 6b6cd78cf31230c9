"""Students that learn from each other: DML as a run of the one loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from amtml_jax import commands, config, trees
from amtml_jax.data import pipeline
from amtml_jax.errors import UserError
from amtml_jax.plan import Plan
from amtml_jax.progress import Line, View
from amtml_jax.train import Training
from tests.settings import quick


def run_of(folder, **changes):
  run = config.resolve(quick(method="dml", **changes))
  go = Training(Plan(run, commands.load(run.data), None), folder, View())
  go.run(Line(View(), "student", go.plan.steps, 0))
  return go


def by_hand(plan, steps):
  """SGD of two students on the same batches, each towards the other's words."""
  run, train = plan.run, plan.splits.train
  network = plan.stages[0].objective.student
  states = [plan._one(plan.stages[0], seed) for seed in run.students]
  params = [s.params["student"] for s in states]
  rate = functools.partial(
    optax.piecewise_constant_schedule(0.02, {3: 0.1, 4: 0.1})
  )
  momentum = [jax.tree.map(jnp.zeros_like, p) for p in params]
  key = jax.random.fold_in(jax.random.key(run.seed), 2)

  def loss(own, other, batch):
    def say(p):
      variables = {"params": p, "batch_stats": {}}
      return jax.nn.log_softmax(network.predict(variables, batch.image).logits)

    mine, theirs = say(own), jax.lax.stop_gradient(say(other))
    right = jnp.take_along_axis(mine, batch.label[:, None], axis=1)
    apart = jnp.sum(jnp.exp(theirs) * (theirs - mine), axis=1)
    return jnp.mean(apart - right[:, 0])

  for step in range(steps):
    rows, epoch = pipeline.rows_of(
      step, seed=run.seed, size=len(train.label), batch=run.batch_size
    )
    batch = pipeline.draw(
      *(train.image, train.label, rows),
      key=key,
      epoch=epoch,
      pad=run.data.pad,
      flip=run.data.flip,
    )
    grads = [jax.grad(loss)(params[k], params[1 - k], batch) for k in (0, 1)]
    for k in (0, 1):
      pulled = jax.tree_util.tree_map_with_path(
        lambda path, g, p: g + 5e-4 * p * (path[-1].key == "kernel"),
        *(grads[k], params[k]),
      )
      momentum[k] = jax.tree.map(lambda m, g: 0.9 * m + g, momentum[k], pulled)
      params[k] = jax.tree.map(
        lambda p, m, s=step: p - rate(s) * m, params[k], momentum[k]
      )
  return params


@pytest.mark.parametrize("lift", ["pmap", "jit"])
def test_two_peers_are_those_of_a_plain_loop(lift, tmp_path):
  go = run_of(tmp_path, parallel=lift)
  own = trees.to_host(go.state.params["student"])
  for k, params in enumerate(by_hand(go.plan, go.plan.steps)):
    jax.tree.map(
      lambda a, b, k=k: np.testing.assert_allclose(
        *(a[k], b), rtol=1e-4, atol=1e-5
      ),
      own,
      trees.to_host(params),
    )


def test_three_peers_are_told_with_their_mean(tmp_path):
  made = quick(method="dml", peers=3, epochs=1)
  summary = commands.run(made, tmp_path, View())
  each = [own["student"]["test_accuracy"] for own in summary["seeds"]]
  assert len(each) == 3
  assert summary["student"]["test_accuracy"] == pytest.approx(np.mean(each))
  assert not (tmp_path / "ensemble").exists()


@pytest.mark.parametrize(
  ("changes", "sentence"),
  [
    (dict(method="dml", peers=1), "config.peers=1, and a term in config.terms"),
    (dict(method="amtml", peers=2), "peers=2, and no term in config.terms"),
    (dict(method="dml", seeds=2), "a program has students of several seeds or"),
    (dict(method="dml", peers=0), "config.peers=0 must be"),
  ],
)
def test_what_cannot_be_is_a_sentence(changes, sentence):
  with pytest.raises(UserError, match=sentence):
    config.resolve(quick(**changes))
