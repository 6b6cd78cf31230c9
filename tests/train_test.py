"""The loop: resumed = uninterrupted, no compilation after the first call."""

import contextlib
import logging
import os
import signal

import jax
import numpy as np
import pytest

from amtml_jax import checkpoint, commands, config, metrics
from amtml_jax.errors import (
  DamagedError,
  DivergedError,
  InterruptedRun,
  UserError,
)
from amtml_jax.plan import Plan
from amtml_jax.progress import Line, View
from amtml_jax.train import Training
from tests.settings import blobs


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
  return commands.teach(blobs(), tmp_path_factory.mktemp("teach"), View())


def training(settings, teachers, folder):
  run = config.resolve(settings)
  ensemble = teachers if run.needs_teachers else None
  return Training(Plan(run, commands.load(run.data), ensemble), folder, View())


def finish(settings, teachers, folder):
  go = training(settings, teachers, folder)
  go.run(Line(View(), "student", go.plan.steps, go.at.step))
  return go


def weights(go):
  return jax.tree.map(np.array, checkpoint.to_host(go.state.params))


def without_time(folder):
  lines = metrics.read(folder)
  return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


class Signalled(Line):
  """Sends the signal after so many dispatches."""

  def __init__(self, dispatches, number=signal.SIGTERM):
    super().__init__(View(), "student", 1, 0)
    self._left, self._number = dispatches, number

  def advance(self, *args):
    self._left -= 1
    if not self._left:
      os.kill(os.getpid(), self._number)


@pytest.mark.parametrize("schedule", ["joint", "two_stage"])
def test_resumed_is_uninterrupted(schedule, teachers, tmp_path):
  settings = blobs(adapter__schedule=schedule, epochs=3, optimizer__ema=0.5)
  whole = finish(settings, teachers, tmp_path / "whole")
  for dispatches in (1, 2, 4):
    go = training(settings, teachers, tmp_path / "parts")
    with contextlib.suppress(InterruptedRun):
      go.run(Signalled(dispatches))
  go = finish(settings, teachers, tmp_path / "parts")
  assert go.at.step == whole.at.step == 9
  jax.tree.map(np.testing.assert_array_equal, weights(go), weights(whole))
  jax.tree.map(
    np.testing.assert_array_equal,
    checkpoint.to_host(go.state.ema),
    checkpoint.to_host(whole.state.ema),
  )
  lines = without_time(tmp_path / "parts")
  assert lines == without_time(tmp_path / "whole")
  assert [line["step"] for line in lines] == [3, 6, 9]


def test_an_interrupted_run_says_where_it_stands(teachers, tmp_path):
  go = training(blobs(), teachers, tmp_path)
  with pytest.raises(InterruptedRun, match="step 2 of 6") as stop:
    go.run(Signalled(1))
  assert stop.value.exit_code == 75
  assert go.saved.steps() == [2]


def test_a_signal_before_the_first_dispatch_stops_without_a_trace(
  teachers, tmp_path, monkeypatch
):
  go = training(blobs(), teachers, tmp_path)
  lift = go.plan.lift

  def signalled(*args):
    os.kill(os.getpid(), signal.SIGINT)
    return lift(*args)

  monkeypatch.setattr(go.plan, "lift", signalled)
  with pytest.raises(InterruptedRun, match="step 0 of 6"):
    go.run(Line(View(), "student", 6, 0))
  assert go.saved.steps() == []


def test_the_second_stage_freezes_adapter_and_regressors(teachers, tmp_path):
  settings = blobs(adapter__schedule="two_stage", epochs=5, keep=9)
  go = finish(settings, teachers, tmp_path)
  first, second = go.plan.stages
  assert (first.last, second.last) == (6, 15)
  assert {name for name, *_ in first.objective.terms} - {
    name for name, *_ in second.objective.terms
  } == {"hint"}
  before = go.saved.restore(6, go.plan.like(first))
  after = go.state
  for part in ("adapter", "terms"):
    jax.tree.map(
      np.testing.assert_array_equal, before.params[part], after.params[part]
    )
  moved = jax.tree.map(
    lambda a, b: bool(np.any(a != b)),
    before.params["student"],
    checkpoint.to_host(after.params["student"]),
  )
  assert all(jax.tree.leaves(moved))


@contextlib.contextmanager
def compilations():
  """The names of the programs that XLA compiles meanwhile."""
  names = []

  class Names(logging.Handler):
    def emit(self, record):
      if record.getMessage().startswith("Compiling"):
        names.append(record.getMessage().split()[1])

  logger = logging.getLogger("jax._src.interpreters.pxla")
  handler = Names()
  logger.addHandler(handler)
  logger.propagate = False
  try:
    with jax.log_compiles(True):
      yield names
  finally:
    logger.removeHandler(handler)
    logger.propagate = True


@pytest.mark.parametrize("lift", ["pmap", "jit"])
@pytest.mark.parametrize("per_dispatch", [1, 2])
def test_init_step_and_evaluation_compile_once_each(
  per_dispatch, lift, teachers, tmp_path
):
  settings = blobs(epochs=3, steps_per_dispatch=per_dispatch, parallel=lift)
  go = training(settings, teachers, tmp_path)
  with compilations() as names:
    go.run(Line(View(), "student", 9, 0))
  assert go.at.step == 9
  assert len(names) == 3, names


def test_steps_in_one_dispatch_are_the_same_steps(teachers, tmp_path):
  one = finish(blobs(steps_per_dispatch=1), teachers, tmp_path / "1")
  two = finish(blobs(steps_per_dispatch=2), teachers, tmp_path / "2")
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    weights(one),
    weights(two),
  )


def test_a_nan_stops_with_step_and_term_and_saves_nothing(teachers, tmp_path):
  settings = blobs(optimizer__learning_rate=1e30, epochs=4)
  with pytest.raises(
    DivergedError,
    match=r"student: \w+ turned (nan|inf) at step [23]; the run was not saved",
  ):
    finish(settings, teachers, tmp_path)
  assert training(blobs(), teachers, tmp_path).at.step == 0


def test_a_run_that_saved_nothing_may_start_with_another_config(tmp_path):
  def alone(rate):
    return config.resolve(blobs(method="alone", optimizer__learning_rate=rate))

  data = commands.load(alone(1.0).data)
  with pytest.raises(DivergedError):
    commands.train(alone(1e30), data, None, tmp_path, View())
  go = commands.train(alone(0.01), data, None, tmp_path, View())
  assert go.finished


def test_damage_is_noticed_and_the_checkpoint_before_is_used(
  teachers, tmp_path, capsys
):
  finish(blobs(), teachers, tmp_path)
  damage(tmp_path / "checkpoints" / "6")
  go = training(blobs(), teachers, tmp_path)
  assert go.at.step == 3
  assert "step 6" in capsys.readouterr().out
  # Done again, it takes the place of the damaged one, which is kept aside.
  assert finish(blobs(), teachers, tmp_path).saved.steps() == [3, 6]
  assert training(blobs(), teachers, tmp_path).at.step == 6
  assert len(list((tmp_path / "damaged").iterdir())) == 1
  damage(tmp_path / "checkpoints" / "6")
  damage(tmp_path / "checkpoints" / "3")
  with pytest.raises(DamagedError, match=r"every checkpoint .* is damaged"):
    training(blobs(), teachers, tmp_path)


def test_another_network_of_the_same_name_is_no_damage(teachers, tmp_path):
  finish(blobs(), teachers, tmp_path)
  with pytest.raises(UserError, match="of another network or optimizer"):
    training(blobs(optimizer__ema=0.5), teachers, tmp_path)


def damage(folder):
  """Flips bytes in the middle of the largest file."""
  path = max(folder.rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
  data = bytearray(path.read_bytes())
  middle = len(data) // 2
  data[middle : middle + 64] = bytes(
    b ^ 0xFF for b in data[middle : middle + 64]
  )
  path.write_bytes(data)


def test_other_teachers_are_refused(teachers, tmp_path):
  finish(blobs(), teachers, tmp_path)
  swapped = type(teachers)(teachers.teachers[::-1], teachers.variables[::-1])
  with pytest.raises(UserError, match="trained by other teachers"):
    training(blobs(teachers=("b=mlp_small", "a=mlp_small")), swapped, tmp_path)


def test_a_batch_that_does_not_divide_is_refused(teachers, tmp_path):
  with pytest.raises(UserError, match=r"batch of 30 does not divide over 4"):
    training(blobs(batch_size=30), teachers, tmp_path)
