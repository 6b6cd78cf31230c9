"""However many devices, however lifted: the same training."""

import jax
import numpy as np
import pytest

from amtml_jax import checkpoint, commands, config, parallel
from amtml_jax.errors import UserError
from amtml_jax.plan import Plan
from amtml_jax.progress import Line, View
from amtml_jax.train import Training
from tests.settings import blobs

# 51 steps with every term, batch statistics and dropout.
EVERYTHING = dict(
  student="tests.tinynet",
  dtype="float64",
  terms__angle=1.0,
  terms__distance=1.0,
  terms__attention=1.0,
  terms__hint=1.0,
  terms__mixture=1.0,
  adapter__l2=0.1,
  epochs=17,
  evaluate_every=17,
  checkpoint_every=17,
)


@pytest.fixture(scope="module")
def double():
  with jax.enable_x64(True):
    yield


@pytest.fixture(scope="module")
def teachers(double, tmp_path_factory):
  settings = blobs(**EVERYTHING)
  return commands.teach(settings, tmp_path_factory.mktemp("teach"), View())


def train(teachers, folder, **changes):
  """Parameters and the log's last line after training in double precision."""
  run = config.resolve(blobs(**EVERYTHING, **changes))
  plan = Plan(run, commands.load(run.data), teachers)
  go = Training(plan, folder, View())
  go.run(Line(View(), "student", plan.steps, 0))
  assert go.at.step == 51
  return checkpoint.to_host(go.state.params), go.at.validation


@pytest.fixture(scope="module")
def alone(teachers, tmp_path_factory):
  return train(teachers, tmp_path_factory.mktemp("alone"), devices=1)


@pytest.mark.parametrize(
  ("devices", "lift"), [(1, "jit"), (2, "pmap"), (4, "pmap"), (4, "jit")]
)
def test_the_same_training(devices, lift, alone, teachers, tmp_path):
  params, validation = train(teachers, tmp_path, devices=devices, parallel=lift)
  for a, b in zip(
    jax.tree.leaves(alone[0]), jax.tree.leaves(params), strict=True
  ):
    assert a.dtype == np.float64
    scale = np.max(np.abs(a))
    np.testing.assert_allclose(b, a, rtol=0, atol=1e-9 * scale)
  np.testing.assert_allclose(
    validation["student"]["cross_entropy"],
    alone[1]["student"]["cross_entropy"],
    rtol=1e-9,
  )


def test_more_devices_than_there_are():
  with pytest.raises(UserError, match=r"devices=5, but this machine has 4"):
    parallel.replicas(5)
