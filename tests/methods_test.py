"""Every method: what it is made of, one step, and the notebooks' loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from amtml_jax import config, network, objective, optimizer, state, step
from amtml_jax.defaults import defaults
from amtml_jax.methods import METHODS, PAPER
from amtml_jax.types import Batch
from tests.settings import blobs

KD = {"cross_entropy": 0.3, "kd": 0.7}
# Written down again, by hand, from SPEC's sections 5 and 5b.
EXPECTED = {
  "alone": ("uniform", {"cross_entropy": 1.0}),
  "okd": ("single", KD),
  "fitnet": ("single", KD | {"hint": 1.0}),
  "at": ("single", KD | {"attention": 1000.0}),
  "rkd": ("single", KD | {"distance": 1.0, "angle": 2.0}),
  "dml": ("uniform", {"cross_entropy": 1.0, "mutual": 1.0}),
  "avgmkd": ("uniform", KD),
  "ebkd": ("entropy", KD),
  "camkd": ("confidence", KD | {"hint": 1.0}),
  "amtml_weights": ("latent", KD),
  "amtml_angle": ("latent", KD | {"angle": 1.0}),
  "amtml_hint": ("latent", KD | {"hint": 1.0}),
  "amtml": ("latent", KD | {"angle": 1.0, "hint": 1.0}),
  "amtml_mix": ("latent", KD | {"angle": 1.0, "hint": 1.0, "mixture": 3.0}),
  "gate": ("gate", KD | {"mixture": 3.0}),
  "log_gate": ("log_gate", KD | {"mixture": 10.0}),
  "amtml_notebook": (
    "latent",
    {"cross_entropy": 0.3, "kd": 1.4, "angle": 1, "distance": 1, "hint": 1},
  ),
}
PARTS = ("student", "adapter", "terms")
ROWS = 6


def settings_of(run, label):
  return next(t.settings for t in run.terms if t.label == label)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_an_adapter_and_weighted_terms(name):
  adapter, weights = EXPECTED[name]
  run = config.resolve(blobs(method=name))
  assert run.adapter.name == adapter
  assert {t.label: t.weight for t in run.terms} == pytest.approx(weights)
  one_phase = name != "amtml_notebook"
  assert len(run.phases()) == (1 if one_phase else 2)


def test_fitnet_and_camkd_set_their_hints():
  fitnet = settings_of(config.resolve(blobs(method="fitnet")), "hint")
  assert fitnet["mapping"] == fitnet["teacher_stage"] == "middle"
  camkd = settings_of(config.resolve(blobs(method="camkd")), "hint")
  assert camkd["mapping"] == camkd["teacher_stage"] == "last"
  assert fitnet["weighted"] == camkd["weighted"] is True
  paper = settings_of(config.resolve(blobs()), "hint")
  assert (paper["mapping"], paper["teacher_stage"]) == ("better_high", "last")
  assert not paper["weighted"]


def test_the_mixture_holds_the_representation_in_the_kd_term_too():
  held = "stop_gradient_representation"
  assert config.resolve(blobs(method="amtml_mix")).adapter.settings[held]
  assert not config.resolve(blobs()).adapter.settings[held]


def test_a_setting_of_ones_own_wins_over_the_methods():
  run = config.resolve(
    blobs(
      method="amtml_notebook",
      adapter__l2=0.0,
      adapter__schedule="joint",
      hint__train_regressors=True,
      hint__mapping="better_high",
      optimizer__decay_all=False,
      student_init_std=0.0,
    )
  )
  assert (run.adapter.l2, run.adapter.schedule) == (0.0, "joint")
  assert settings_of(run, "hint")["train_regressors"] is True
  assert settings_of(run, "hint")["mapping"] == "better_high"
  assert settings_of(run, "hint")["teacher_stage"] == "middle"
  assert (run.optimizer.decay_all, run.student_init_std) == (False, 0.0)
  assert run.adapter.settings["pooling"] == "average"


def test_no_method_changes_a_teacher():
  expected = config.teacher(blobs(), "a=mlp_small")
  assert expected.student_init_std == 0.0
  assert not expected.optimizer.decay_all
  for name in METHODS:
    changed = blobs(method=name, student_init_std=0.5)
    assert config.teacher(changed, "a=mlp_small") == expected, name


def left_to_the_method(section, above=""):
  for name, value in section.items():
    if isinstance(value, ConfigDict):
      yield from left_to_the_method(value, f"{above}{name}.")
    elif value is None:
      yield f"{above}{name}"


def test_whatever_is_left_to_a_method_has_the_papers_value():
  left = {
    key
    for key in left_to_the_method(defaults())
    if not key.startswith(("terms.", "teacher."))
  }
  # The adapter is every method's own, and no index is the best teacher's.
  assert left - {"adapter.name", "adapter.index"} == set(PAPER)
  assert {"teacher.optimizer.decay_all"} == {
    key for key in left_to_the_method(defaults()) if key.startswith("teacher.")
  }
  for name, method in METHODS.items():
    assert set(method.get("settings", {})) <= set(PAPER), name


def built(settings):
  """A run and its objective, under two dense teachers; the second is better."""
  run = config.resolve(settings)
  make = functools.partial(
    network.build, num_classes=3, mean=(0.5,), std=(0.25,), dtype=run.dtype
  )
  teachers = ()
  if run.needs_teachers:
    teachers = tuple(make(name) for name in run.teachers)
  ranking = tuple(reversed(range(len(teachers))))
  goal = objective.build(run, run.terms, make(run.student), teachers, ranking)
  return run, goal


def started(run, goal):
  """The optimizer, a state, what random teachers say, and their batch."""
  rng = np.random.default_rng(0)
  batch = Batch(
    image=jnp.asarray(rng.integers(0, 256, (ROWS, 4, 4, 1)), jnp.uint8),
    label=jnp.arange(ROWS, dtype=jnp.int32) % 3,
    example=jnp.arange(ROWS, dtype=jnp.int32),
    mask=jnp.ones((ROWS,)),
  )
  update = optimizer.build(
    run.optimizer, run.adapter.learning_rate, steps=10, epoch=5
  )
  current = jax.jit(
    lambda: state.init(
      goal, update, PARTS, seed=3, image_shape=(4, 4, 1), ema=False
    )
  )()
  return update, current, say(goal.teachers, run.dtype), batch


@functools.cache
def say(teachers, dtype):
  """What random teachers say of random images, once for all methods."""
  rng = np.random.default_rng(1)
  image = rng.integers(0, 256, (ROWS, 4, 4, 1)).astype(np.uint8)
  return tuple(
    jax.jit(lambda key, t=teacher: t.predict(t.init(key, (4, 4, 1)), image))(
      jax.random.key(i)
    )
    for i, teacher in enumerate(teachers)
  )


# Peers are of one program: tests/peers_test.py.
@pytest.mark.parametrize("name", [name for name in METHODS if name != "dml"])
def test_one_step_of_a_method_moves_all_that_is_trained(name):
  changes = {}
  if name == "at":  # a dense layer's attention, to one pixel, is always alike
    changes = dict(student="tests.tinynet", teachers=("a=tests.tinynet",))
  run, goal = built(blobs(method=name, **changes))
  update, current, said, batch = started(run, goal)
  after, parts = jax.jit(
    functools.partial(step.train_step, goal, update, PARTS, 0.0)
  )(current, said, batch)
  labels = {t.label for t in run.terms}
  assert labels <= set(parts)
  means = {k: float(value / count) for k, (value, count) in parts.items()}
  assert all(np.isfinite(v) for v in means.values()), means
  assert all(means[label] > 0 for label in labels), means
  expected = sum(t.weight * means[t.label] for t in run.terms)
  expected += run.adapter.l2 * means.get("adapter_l2", 0.0)
  assert means["loss"] == pytest.approx(expected, rel=1e-5)
  moved = jax.tree.map(
    lambda a, b: bool(np.any(a != b) and np.all(np.isfinite(b))),
    current.params,
    after.params,
  )
  assert all(jax.tree.leaves(moved)), moved


def test_the_notebooks_student_starts_otherwise_and_no_teacher():
  _, goal = built(blobs(method="amtml_notebook"))
  assert goal.student.init_std == 0.02
  assert [t.init_std for t in goal.teachers] == [0.0, 0.0]
  _, goal = built(blobs())
  assert goal.student.init_std == 0.0


def softmax(x):
  x = np.exp(x - x.max(-1, keepdims=True))
  return x / x.sum(-1, keepdims=True)


def huber(x):
  return np.where(np.abs(x) < 1, 0.5 * x**2, np.abs(x) - 0.5)


def angles(rows):
  """Cosines at every vertex j between every i and k, as RKD's code has it."""
  found = np.zeros((len(rows),) * 3)
  for i, j, k in np.ndindex(found.shape):
    a, b = rows[i] - rows[j], rows[k] - rows[j]
    long = max(np.linalg.norm(a), 1e-12) * max(np.linalg.norm(b), 1e-12)
    found[i, j, k] = a @ b / long
  return found


def distances(rows):
  apart = np.linalg.norm(rows[:, None] - rows[None], axis=-1)
  return apart / apart[apart > 0].mean()


def unit(rows):
  return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_the_notebooks_loss_by_hand(x64):
  """LR_adaptive_learning.ipynb, read line by line and written in numpy."""
  run, goal = built(blobs(method="amtml_notebook", dtype="float64"))
  _, current, said, batch = started(run, goal)
  keys = step.example_keys(current.rng, current.step, batch.example)
  loss, _ = jax.jit(goal.loss)(
    current.params, current.batch_stats, said, batch, keys
  )
  student = goal.student.predict(current.student, batch.image)
  z, labels = np.asarray(student.logits), np.asarray(batch.label)
  theta, v = (np.asarray(current.params["adapter"][n]) for n in ("theta", "v"))
  # Dense layers are maps of one pixel, which is their average.
  beta = np.asarray(student.last)[:, 0, 0]
  weights = softmax(np.stack([(beta * t) @ v for t in theta], axis=-1))
  soft = np.stack([softmax(np.asarray(t.logits) / 5.0) for t in said], axis=1)
  target = (weights[:, :, None] * soft).sum(1)
  y = np.log(softmax(z / 5.0))
  kd = (target * (np.log(target) - y)).mean() * (5.0 * 5.0 * 2.0 * 0.7)
  kd += -y[np.arange(ROWS), labels].mean() * (1.0 - 0.7)
  angle = huber(angles(y) - angles(target)).mean()
  distance = huber(distances(y) - distances(target)).mean()
  pull = 0.1 * ((v**2).sum() + (theta**2).sum())
  guided = unit(np.asarray(student.features[0])[:, 0, 0])
  fit = 0.0
  for t, teacher in enumerate(said):
    key = jax.random.fold_in(jax.random.key(0), t)
    kernel = jax.random.uniform(key, (64, 64), jnp.float64, -0.005, 0.005)
    hint = unit(np.asarray(teacher.features[0])[:, 0, 0])
    fit += ((guided @ np.asarray(kernel) - hint) ** 2).mean()
  expected = kd + angle + distance + pull + fit
  np.testing.assert_allclose(loss, expected, rtol=1e-9)
