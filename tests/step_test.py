"""One step: the same on 1 and 4 devices, and equal to plain numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from amtml_jax import (
  config,
  network,
  objective,
  optimizer,
  parallel,
  reachability,
  state,
  step,
)
from amtml_jax.errors import UserError
from amtml_jax.types import Batch
from tests.settings import blobs

EVERYTHING = ("student", "adapter", "terms")
ALL_TERMS = {
  "terms__angle": 1.0,
  "terms__distance": 1.0,
  "terms__attention": 1.0,
  "terms__hint": 1.0,
  "terms__mixture": 1.0,
  "adapter__l2": 0.1,
}


def build(settings, *, axis=None, teachers=("tests.tinynet", "b=mlp_small")):
  run = config.resolve(settings)
  make = functools.partial(
    network.build, num_classes=3, mean=(0.5,), std=(0.25,), dtype=run.dtype
  )
  networks = tuple(make(t) for t in teachers)
  ranking = tuple(range(len(networks)))
  student = make(run.student, axis=axis)
  return run, objective.build(
    run, run.terms, student, networks, ranking, axis=axis
  )


def make_batch(n=16, size=8):
  rng = np.random.default_rng(0)
  return Batch(
    image=jnp.asarray(rng.integers(0, 256, (n, size, size, 1)), jnp.uint8),
    label=jnp.asarray(rng.integers(0, 3, n), jnp.int32),
    example=jnp.arange(n, dtype=jnp.int32),
    mask=jnp.ones((n,)),
  )


def start(run, goal, size=8, parts=EVERYTHING):
  update = optimizer.build(run.optimizer, 0.01, steps=10, epoch=5)
  current = jax.jit(
    lambda: state.init(
      goal, update, parts, seed=3, image_shape=(size, size, 1), ema=False
    )
  )()
  frozen = tuple(
    t.init(jax.random.key(i + 7), (size, size, 1))
    for i, t in enumerate(goal.teachers)
  )
  return update, current, frozen


def said(goal, frozen, batch):
  """What the teachers say of a batch."""
  return jax.jit(goal.teach)(frozen, batch.image)


@functools.lru_cache
def alone_on_one():
  """A step's arguments, and (gradients, batch statistics, parts) of it."""
  run, goal = build(blobs(student="tests.tinynet", **ALL_TERMS))
  _, current, frozen = start(run, goal)
  batch = make_batch()
  one = jax.jit(functools.partial(step.gradients, goal, EVERYTHING))
  args = current, said(goal, frozen, batch), batch
  return args, one(*args)


def spread(devices, lift):
  """The same, of every replica, with a leading axis of replicas."""
  (current, *rows), _ = alone_on_one()
  replicas = parallel.replicas(devices, lift)
  settings = blobs(student="tests.tinynet", **ALL_TERMS)
  _, goal = build(settings, axis=replicas.axis)
  gradients = functools.partial(step.gradients, goal, EVERYTHING)
  if lift == "jit":
    rows = jax.tree.map(replicas.put, rows)
    whole = jax.jit(gradients)(replicas.place(current), *rows)
    return jax.tree.map(lambda x: x[None], whole)
  each = jax.pmap(
    gradients,
    axis_name=parallel.AXIS,
    in_axes=(None, 0, 0),
    devices=replicas.devices,
  )
  return each(current, *jax.tree.map(replicas.shard, rows))


def assert_close(one, four, relative):
  """Against the largest entry of a tree: small ones are differences."""
  scale = max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(one))
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
    for replica in b:
      np.testing.assert_allclose(replica, a, rtol=0, atol=relative * scale)


def assert_same_step(one, four, relative):
  (grads, batch_stats, parts), (grads4, batch_stats4, parts4) = one, four
  assert_close(grads, grads4, relative)
  assert_close(batch_stats, batch_stats4, relative)
  for name, pair in parts.items():
    assert_close(pair[0] / pair[1], parts4[name][0] / parts4[name][1], relative)


@pytest.mark.parametrize("lift", ["pmap", "jit"])
@pytest.mark.parametrize("devices", [2, 4])
def test_more_devices_give_the_step_of_one(devices, lift):
  _, one = alone_on_one()
  assert_same_step(one, spread(devices, lift), 1e-5)


def test_the_total_is_the_weighted_sum_of_its_parts():
  run, goal = build(blobs(student="tests.tinynet", **ALL_TERMS))
  _, current, frozen = start(run, goal)
  _, _, parts = jax.jit(functools.partial(step.gradients, goal, EVERYTHING))(
    current, said(goal, frozen, make_batch()), make_batch()
  )
  means = {name: value / count for name, (value, count) in parts.items()}
  weights = {t.label: t.weight for t in run.terms} | {"adapter_l2": 0.1}
  assert weights["cross_entropy"] == pytest.approx(0.3)
  assert weights["kd"] == pytest.approx(0.7)
  expected = sum(weight * means[name] for name, weight in weights.items())
  np.testing.assert_allclose(means["loss"], expected, rtol=1e-6)
  latent = current.params["adapter"]
  pull = np.sum(np.square(latent["v"])) + np.sum(np.square(latent["theta"]))
  np.testing.assert_allclose(means["adapter_l2"], pull, rtol=1e-6)


def test_a_step_moves_everything():
  run, goal = build(blobs(student="tests.tinynet", **ALL_TERMS))
  update, current, frozen = start(run, goal)
  after, _ = jax.jit(
    functools.partial(step.train_step, goal, update, EVERYTHING, 0.0)
  )(current, said(goal, frozen, make_batch()), make_batch())
  moved = jax.tree.map(
    lambda a, b: bool(np.any(a != b)), current.params, after.params
  )
  assert all(jax.tree.leaves(moved))
  assert after.step == 1


@pytest.mark.parametrize(
  ("method", "index"),
  [("okd", None), ("fitnet", None), ("at", None), ("rkd", None), ("at", 1)],
)
def test_a_method_of_one_teacher_looks_at_no_other(method, index):
  # What nothing looks at, XLA does not compute: the others cost nothing.
  settings = blobs(method=method, student="tests.tinynet", adapter__index=index)
  _, goal = build(settings, teachers=("tests.tinynet", "b=tests.tinynet"))
  params, batch_stats = goal.init(jax.random.key(0), (8, 8, 1))
  frozen = tuple(t.init(jax.random.key(7), (8, 8, 1)) for t in goal.teachers)
  batch, outputs = make_batch(), list(said(goal, frozen, make_batch()))
  keys = jax.random.split(jax.random.key(0), 16)
  loss = jax.jit(lambda said: goal.loss(params, batch_stats, said, batch, keys))
  heard = index or 0
  outputs[1 - heard] = jax.tree.map(lambda x: x * jnp.nan, outputs[1 - heard])
  assert np.isfinite(loss(tuple(outputs))[0])
  outputs[heard] = outputs[1 - heard]
  assert np.isnan(loss(tuple(outputs))[0])


def test_ema_follows_the_student():
  run, goal = build(blobs(), teachers=("mlp_small",))
  update, current, frozen = start(run, goal)
  current = current.replace(
    ema=jax.tree.map(
      jnp.zeros_like, {"params": current.params["student"], "batch_stats": {}}
    )
  )
  after, _ = jax.jit(
    functools.partial(step.train_step, goal, update, EVERYTHING, 0.75)
  )(current, said(goal, frozen, make_batch()), make_batch())
  quarter = jax.tree.map(lambda x: 0.25 * x, after.params["student"])
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-6),
    after.student["params"],
    quarter,
  )


def check(settings, teachers=("mlp_small",), parts=EVERYTHING):
  run, goal = build(settings, teachers=teachers)
  update, current, frozen = start(run, goal, parts=parts)
  batch = make_batch()
  outputs = said(goal, frozen, batch)
  reachability.check(goal, update, parts, current, outputs, batch)


def test_everything_trainable_is_reached():
  check(blobs(**ALL_TERMS))


def test_a_single_teacher_reaches_the_adapter_in_the_graph():
  check(blobs(), teachers=("mlp_small",))


def test_an_adapter_that_nothing_trains_is_refused():
  settings = blobs(terms__kd=0.0, terms__cross_entropy=1.0, terms__hint=0.0)
  with pytest.raises(UserError, match=r"no term .* reaches adapter/theta"):
    check(settings)


def test_a_leaf_that_the_optimizer_leaves_alone_is_refused():
  run, goal = build(blobs(), teachers=("mlp_small",))
  _, current, frozen = start(run, goal)
  deaf = optax.partition(
    {"network": optax.sgd(0.1), "adapter": optax.set_to_zero()},
    optimizer.groups,
  )
  outputs = said(goal, frozen, make_batch())
  with pytest.raises(UserError, match="does not move adapter/theta"):
    reachability.check(goal, deaf, EVERYTHING, current, outputs, make_batch())


def test_bfloat16_networks_keep_float32_losses_and_parameters():
  run, goal = build(
    blobs(student="tests.tinynet", dtype="bfloat16", **ALL_TERMS)
  )
  update, current, frozen = start(run, goal)
  shapes = jax.eval_shape(
    functools.partial(step.train_step, goal, update, EVERYTHING, 0.0),
    current,
    said(goal, frozen, make_batch()),
    make_batch(),
  )
  after, parts = shapes
  floats = [
    x.dtype for x in jax.tree.leaves((after.params, after.batch_stats, parts))
  ]
  assert set(floats) == {jnp.dtype("float32")}
  features = jax.eval_shape(
    goal.student.predict, after.student, make_batch().image
  ).features
  assert {f.dtype for f in features} == {jnp.dtype("bfloat16")}


def test_dropout_is_keyed_by_step_and_example():
  rows = jnp.asarray([4, 9, 4], jnp.int32)
  key = jax.random.key(0)
  data = [
    jax.random.key_data(step.example_keys(key, jnp.int32(s), rows))
    for s in (5, 6)
  ]
  np.testing.assert_array_equal(data[0][0], data[0][2])
  assert np.any(data[0][0] != data[0][1])
  assert np.any(data[0][0] != data[1][0])
