"""Schedules by hand, and which leaf gets which update."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax import config, optimizer
from tests.settings import blobs


def spec(**changes):
  changes = {f"optimizer__{k}": v for k, v in changes.items()}
  return config.resolve(blobs(**changes)).optimizer


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    ({}, {0: 0.1, 9: 0.1, 10: 0.01, 14: 0.01, 15: 0.001, 19: 0.001}),
    ({"schedule": "constant"}, {0: 0.1, 19: 0.1}),
    ({"schedule": "cosine"}, {0: 0.1, 10: 0.05, 20: 0.0}),
    ({"warmup_epochs": 2}, {0: 0.0, 2: 0.05, 4: 0.1, 10: 0.01, 15: 0.001}),
    (
      {"schedule": "cosine", "warmup_epochs": 2},
      {0: 0.0, 3: 0.075, 4: 0.1, 12: 0.05, 20: 0.0},
    ),
  ],
)
def test_learning_rate(changes, expected):
  rate = optimizer.schedule(
    spec(learning_rate=0.1, **changes), steps=20, epoch=2
  )
  found = {step: float(rate(step)) for step in expected}
  assert found == pytest.approx(expected, abs=1e-8)


PARAMS = {
  "student": {
    "conv": {"kernel": jnp.ones(2), "bias": jnp.ones(2)},
    "norm": {"scale": jnp.ones(2)},
  },
  "adapter": {"theta": jnp.ones(2), "v": jnp.ones(2)},
  "terms": {"hint": {"regressor_0": {"kernel": jnp.ones(2)}}},
}


@pytest.mark.parametrize("decay_all", [False, True])
def test_decay_pulls_on_kernels_or_on_the_whole_student(decay_all):
  update = optimizer.build(
    spec(learning_rate=0.1, weight_decay=0.5, decay_all=decay_all),
    0.01,
    steps=10,
    epoch=5,
  )
  zeros = jax.tree.map(jnp.zeros_like, PARAMS)
  moved, _ = update.update(zeros, update.init(PARAMS), PARAMS)
  pulled = {
    jax.tree_util.keystr(path, simple=True, separator="/"): float(leaf[0])
    for path, leaf in jax.tree_util.tree_leaves_with_path(moved)
    if np.any(leaf)
  }
  expected = ["student/conv/kernel", "terms/hint/regressor_0/kernel"]
  if decay_all:
    expected += ["student/conv/bias", "student/norm/scale"]
  assert pulled == pytest.approx(dict.fromkeys(expected, -0.05))


def test_the_adapter_has_a_constant_rate_of_its_own():
  update = optimizer.build(
    spec(learning_rate=0.1, weight_decay=0.0, momentum=0.0),
    0.03,
    steps=2,
    epoch=1,
  )
  ones = jax.tree.map(jnp.ones_like, PARAMS)
  opt_state = update.init(PARAMS)
  for rate in (0.1, 0.01):
    moved, opt_state = update.update(ones, opt_state, PARAMS)
    np.testing.assert_allclose(moved["adapter"]["v"], -0.03, rtol=1e-6)
    np.testing.assert_allclose(
      moved["terms"]["hint"]["regressor_0"]["kernel"], -rate, rtol=1e-6
    )


def test_clipping_is_by_the_norm_of_everything():
  update = optimizer.build(
    spec(learning_rate=1.0, weight_decay=0.0, clip_norm=1.0),
    1.0,
    steps=2,
    epoch=1,
  )
  ones = jax.tree.map(jnp.ones_like, PARAMS)
  moved, _ = update.update(ones, update.init(PARAMS), PARAMS)
  # 12 ones have the norm sqrt(12).
  np.testing.assert_allclose(moved["adapter"]["v"], -(12**-0.5), rtol=1e-6)
