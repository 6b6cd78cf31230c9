"""The loop: resumed = uninterrupted, no compilation after the first call."""

import contextlib
import logging
import os
import re
import resource
import shutil
import signal

import jax
import numpy as np
import pytest

from amtml_jax import commands, config, metrics, trees
from amtml_jax.errors import (
  DamagedError,
  DivergedError,
  InterruptedRun,
  NotSavedError,
  UserError,
)
from amtml_jax.plan import Plan
from amtml_jax.progress import Line, View
from amtml_jax.train import Training
from tests.settings import quick as blobs


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
  return jax.tree.map(np.array, trees.to_host(go.state.params))


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
    trees.to_host(go.state.ema),
    trees.to_host(whole.state.ema),
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
  with pytest.raises(InterruptedRun, match="step 0 of 6; the same"):
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
    trees.to_host(after.params["student"]),
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
def test_init_step_teachers_and_evaluation_compile_once_each(
  per_dispatch, lift, teachers, tmp_path
):
  settings = blobs(epochs=3, steps_per_dispatch=per_dispatch, parallel=lift)
  go = training(settings, teachers, tmp_path)
  with compilations() as names:
    go.run(Line(View(), "student", 9, 0))
  assert go.at.step == 9
  assert len(names) == 4, names


def test_steps_in_one_dispatch_are_the_same_steps(teachers, tmp_path):
  one = finish(blobs(steps_per_dispatch=1), teachers, tmp_path / "1")
  two = finish(blobs(steps_per_dispatch=2), teachers, tmp_path / "2")
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    weights(one),
    weights(two),
  )


def test_continued_on_half_the_devices(teachers, tmp_path):
  whole = finish(blobs(), teachers, tmp_path / "whole")
  with pytest.raises(InterruptedRun):
    training(blobs(), teachers, tmp_path / "parts").run(Signalled(2))
  go = finish(blobs(devices=2, parallel="jit"), teachers, tmp_path / "parts")
  assert go.at.step == whole.at.step
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    weights(go),
    weights(whole),
  )


def test_saves_by_epochs_steps_and_minutes(teachers, tmp_path):
  def steps(**when):
    settings = blobs(epochs=3, keep=9, **when)
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    go = finish(settings, teachers, folder)
    assert [line["step"] for line in metrics.read(folder)] == [3, 6, 9]
    return go.saved

  assert steps(checkpoint_every=2).steps() == [6, 9]
  by_steps = steps(checkpoint_every=3, checkpoint_steps=4)
  assert by_steps.steps() == [4, 8, 9]
  # Nobody knows how good a state is between evaluations.
  assert by_steps.best() == 9
  assert steps(checkpoint_minutes=1e-9).steps() == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_a_signal_during_a_save_that_fails_does_not_say_saved(
  teachers, tmp_path, monkeypatch
):
  go = training(blobs(epochs=3), teachers, tmp_path)
  save = go.saved.save
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

  def failing(*args):
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**13, hard))
    save(*args)
    os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(go.saved, "save", failing)
  try:
    with pytest.raises(NotSavedError, match="no checkpoint is there yet"):
      go.run(Line(View(), "student", 9, 0))
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert go.saved.steps() == []


@pytest.mark.parametrize("full_disk", ["stop", "go_on"])
def test_a_full_disk_costs_no_checkpoint(full_disk, teachers, tmp_path, capsys):
  finish(blobs(epochs=1), teachers, tmp_path)
  go = training(blobs(epochs=3, full_disk=full_disk), teachers, tmp_path)
  # The system refuses longer files just as it refuses them on a full disk.
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  less_than_a_kernel = 2**13

  class Filling(Line):
    def say(self, text):  # after an evaluation, when all is compiled
      resource.setrlimit(resource.RLIMIT_FSIZE, (less_than_a_kernel, hard))

  try:
    # The last state is never given up.
    with pytest.raises(NotSavedError, match=FULL):
      go.run(Filling(View(), "student", 9, 3))
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  said = re.search(f"{FULL}.*; going on", capsys.readouterr().out)
  assert bool(said) == (full_disk == "go_on")
  assert go.saved.steps() == [3]
  half = tmp_path / "checkpoints" / "8.orbax-checkpoint-tmp"
  half.mkdir()  # of a save that nobody repeats
  finish(blobs(epochs=3), teachers, tmp_path)
  left = {p.name for p in (tmp_path / "checkpoints").iterdir()}
  assert left == {"6", "9"}
  assert [line["step"] for line in metrics.read(tmp_path)] == [3, 6, 9]


FULL = (
  r"a checkpoint could not be written to .*checkpoints \(File too large\); the "
  "checkpoint of step 3 is whole"
)


def test_a_nan_stops_with_step_and_term_and_saves_nothing(teachers, tmp_path):
  settings = blobs(optimizer__learning_rate=1e30, epochs=4)
  with pytest.raises(
    DivergedError,
    match=r"student: \w+ turned (nan|inf) at step [23]; no checkpoint",
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


def test_after_damage_every_save_counts(teachers, tmp_path):
  finish(blobs(), teachers, tmp_path)
  damage(tmp_path / "checkpoints" / "6")
  go = training(blobs(), teachers, tmp_path)
  with pytest.raises(InterruptedRun, match="step 5 of 6 and saved"):
    go.run(Signalled(1))
  assert training(blobs(), teachers, tmp_path).at.step == 5


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


def test_damaged_words_beside_the_state_are_noticed_too(
  teachers, tmp_path, capsys
):
  whole = tmp_path / "whole"
  finish(blobs(), teachers, whole)
  before = (whole / "checkpoints" / "6" / "meta" / "metadata").read_text()
  damages = [
    (name, text)
    for name in ("metrics/metrics", "meta/metadata")
    for text in ("", "[]", "{}")
  ]
  other = before.replace('"step": 6', '"step": 5')
  assert other != before
  for number, (name, text) in enumerate([*damages, ("meta/metadata", other)]):
    folder = tmp_path / str(number)
    shutil.copytree(whole, folder)
    (folder / "checkpoints" / "6" / name).write_text(text)
    assert training(blobs(), teachers, folder).at.step == 3, (name, text)
    assert "step 6 in" in capsys.readouterr().out


def test_no_checkpoint_that_tells_how_good_it_is_is_an_error(
  teachers, tmp_path
):
  (tmp_path / "checkpoints" / "3").mkdir(parents=True)
  for _ in range(2):
    with pytest.raises(DamagedError, match="every checkpoint in"):
      training(blobs(), teachers, tmp_path)
