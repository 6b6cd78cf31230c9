"""Teachers heard once a view: the same training, and never another teacher's
outputs."""

import json
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax import commands, config, hear, metrics, trees, views
from amtml_jax.errors import (
  DamagedError,
  InterruptedRun,
  NotSavedError,
  UserError,
)
from amtml_jax.evaluate import Evaluator
from amtml_jax.kept import Kept
from amtml_jax.plan import Plan
from amtml_jax.progress import Line, View
from amtml_jax.train import Training
from amtml_jax.types import ModelOutput
from tests.settings import quick as blobs
from tests.train_test import compilations


def settings(**changes):
  many = dict(data__views=2, epochs=3, student="tests.tinynet")
  return blobs(**many | changes)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
  two = ("a=tests.tinynet", "b=mlp_small")
  folder = tmp_path_factory.mktemp("teach")
  return commands.teach(blobs(teachers=two), folder, View())


def planned(teachers, **changes):
  run = config.resolve(settings(**changes))
  return Plan(run, commands.load(run.data), teachers)


def finish(plan, workdir):
  go = Training(plan, workdir, View())
  go.run(Line(View(), "student", plan.steps, go.at.step))
  return go


def weights(go):
  return trees.to_host(go.state.params)


def assert_close(one, other, tolerance):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=1e-5),
    weights(one),
    weights(other),
  )


@pytest.fixture(scope="module")
def uncached(teachers, tmp_path_factory):
  """The same views, with the teachers run at every step."""
  return finish(planned(teachers), tmp_path_factory.mktemp("uncached"))


@pytest.mark.parametrize(("megabytes", "lift"), [(4096, "pmap"), (0, "jit")])
def test_kept_outputs_train_the_same_student(
  megabytes, lift, teachers, uncached, tmp_path
):
  plan = planned(teachers, parallel=lift, data__resident_mb=megabytes)
  plan.taught = hear.hear(plan, tmp_path / "outputs", View())
  assert plan.taught.resident == (megabytes > 0)
  assert bool(plan.feed().shared[1]) == (megabytes > 0)
  go = finish(plan, tmp_path)
  # The maps of the hints are kept as float16.
  assert_close(go, uncached, 2e-3)
  assert metrics.read(tmp_path)[-1]["step"] == 9


def test_views_are_few_and_keyed_by_their_seed(teachers):
  """Epoch 2 shows what epoch 0 showed; another seed shows something else."""
  plan = planned(teachers, student="mlp_small", terms__hint=0.0)
  feed, update = plan.feed(), plan.lift(plan.stages[0], 1)

  def loss(epoch):
    _, parts, _ = update(
      *(plan.start(), plan.teachers, feed.shared, feed.next(0, 1)[0]),
      *(np.array([epoch], np.int32), np.int32(1)),
      plan.replicas.each(np.zeros(2, np.int32)),
    )
    return float(parts["loss"][0][0])

  assert loss(2) == loss(0) != loss(1)
  keys = [
    jax.random.key_data(
      views.key(config.resolve(blobs(data__view_seed=i)).data)
    )
    for i in range(2)
  ]
  assert (keys[0] != keys[1]).any()
  unmoved = config.resolve(blobs(data__views=5, data__pad=0, data__flip=False))
  assert views.count(unmoved.data) == 1


def test_only_what_is_looked_at_is_kept(teachers):
  def kept(**changes):
    reading = planned(teachers, **changes).reading
    paths = jax.tree_util.tree_leaves_with_path(reading.like)
    names = [
      jax.tree_util.keystr(path, simple=True, separator=".")
      for path, _ in paths
    ]
    return {n for n, read in zip(names, reading.read, strict=True) if read}

  logits = {"0.logits", "1.logits"}
  assert kept(terms__hint=0.0) == logits
  hints = kept()
  assert len(hints) == 4
  assert hints > logits
  assert kept(adapter__schedule="two_stage") == hints


def test_a_second_run_hears_nothing_again(teachers, tmp_path, monkeypatch):
  plan = planned(teachers)
  first = hear.hear(plan, tmp_path, View())
  monkeypatch.setattr(Kept, "writing", None)  # nothing may be written
  # Of fewer views, fewer maps, fewer teachers, another student's seed.
  for changes in (
    dict(),
    dict(seed=5, data__views=1, terms__hint=0.0),
    dict(method="avgmkd", student="mlp_small"),
  ):
    other = planned(teachers, **changes)
    taught = hear.hear(other, tmp_path, View())
    assert len(taught.arrays[0]) == other.run.data.views
  np.testing.assert_array_equal(taught.arrays[0][1], first.arrays[0][1])


def test_outputs_of_another_teacher_are_never_taken(teachers, tmp_path, capsys):
  plan = planned(teachers)
  taught = hear.hear(plan, tmp_path, View())
  right = [np.array(leaf[0]) for leaf in taught.arrays]
  a, b = (next(tmp_path.glob(f"{name}-*")) for name in ("a", "b"))

  def again():
    arrays = hear.hear(planned(teachers), tmp_path, View()).arrays
    for leaf, expected in zip(arrays, right, strict=True):
      np.testing.assert_array_equal(leaf[0], expected)
    return capsys.readouterr().out

  # Another teacher's files, words and all.
  for path in b.glob("view0-logits*"):
    shutil.copy(path, a)
  assert "of something else; computed again" in again()
  # Its array under the right words.
  theirs = next(b.glob("view0-logits-*.npy"))
  shutil.copy(theirs, next(a.glob("view0-logits-*.npy")))
  assert "computed again" in again()
  # A flipped byte, a file cut short, words that are no JSON.
  path = next(a.glob("view1-logits-*.npy"))
  data = bytearray(path.read_bytes())
  data[-3] ^= 1
  path.write_bytes(data)
  assert "computed again" in again()
  next(a.glob("view1-logits-*.npy")).write_bytes(data[:99])
  assert "computed again" in again()
  (a / "view1-logits.json").write_text("{")
  assert "computed again" in again()
  assert "computed again" not in again()


@pytest.mark.parametrize("view", [0, 1])
def test_a_careful_forger_is_found_by_asking_the_teacher(
  view, teachers, tmp_path
):
  plan = planned(teachers)
  hear.hear(plan, tmp_path, View())
  a, b = (next(tmp_path.glob(f"{name}-*")) for name in ("a", "b"))
  name = f"view{view}-logits"
  of = json.loads((a / f"{name}.json").read_text())["of"]
  wrong = np.load(next(b.glob(f"{name}-*.npy")))
  with Kept(a, of).writing({name: (wrong.shape, wrong.dtype)}) as files:
    files[name].append(wrong)
  with pytest.raises(DamagedError, match="what another teacher than 'a' says"):
    hear.hear(planned(teachers), tmp_path, View())


def test_a_run_keeps_them_beside_its_teachers_and_compiles_once(tmp_path):
  changes = dict(data__views=2, epochs=2, steps_per_dispatch=2)
  commands.run(blobs(**changes), tmp_path, View())
  assert len(list((tmp_path / "ensemble" / "outputs").glob("*/*.npy"))) == 8
  shutil.rmtree(tmp_path / "checkpoints")
  with compilations() as names:
    commands.distill(blobs(**changes), tmp_path, View())
  assert sorted(names) == sorted(set(names)), names


def test_a_signal_keeps_the_views_that_are_whole(
  teachers, tmp_path, monkeypatch
):
  plan = planned(teachers, data__views=3)
  advance, calls = Line.advance, []

  def signalled(line, done, *args):
    calls.append(done)
    if len(calls) == 5:  # in the second view of three batches
      os.kill(os.getpid(), signal.SIGTERM)
    advance(line, done, *args)

  monkeypatch.setattr(Line, "advance", signalled)
  with pytest.raises(InterruptedRun, match="'a' was heard; the same command"):
    hear.hear(plan, tmp_path, View())
  names = {p.name for p in tmp_path.rglob("view*.json")}
  assert names == {"view0-logits.json", "view0-features.1.json"}
  stray = next(tmp_path.glob("a-*")) / ".view1-logits.1"
  stray.write_text("of a run that was killed")
  hear.hear(plan, tmp_path, View())
  assert not stray.exists()
  assert calls == [*range(1, 6), *range(1, 7), *range(1, 10)]


def test_maps_too_large_for_float16_are_refused(teachers, tmp_path):
  plan = planned(teachers)
  plan.teachers = jax.tree.map(lambda x: x * 1e6, plan.teachers)
  with pytest.raises(UserError, match="more than float16 holds"):
    hear.hear(plan, tmp_path, View())
  assert not list(tmp_path.rglob("b-*/*.npy"))
  assert not list(tmp_path.rglob(".view*"))


def test_a_disk_without_room_is_told_before_anything_is_computed(
  teachers, tmp_path, monkeypatch
):
  full = shutil.disk_usage(tmp_path)._replace(free=100)
  monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
  with pytest.raises(UserError, match=r"config\.data\.outputs"):
    hear.hear(planned(teachers), tmp_path, View())


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
  kept = Kept(tmp_path / "x", {"of": 1})

  def write():
    with kept.writing({"y": ((4, 2), np.float32)}) as files:
      files["y"].append(np.zeros((2, 2), np.float32))
      raise OSError(28, "No space left on device")

  with pytest.raises(NotSavedError, match="No space"):
    write()
  assert list((tmp_path / "x").iterdir()) == []
  assert kept.find("y") is None


def test_reading_follows_the_graph():
  like = (
    ModelOutput(jnp.zeros((2, 3)), (jnp.zeros((2, 1)), jnp.zeros((2, 5)))),
  )
  reading = views.Reading.of(
    lambda said, x: said[0].logits.sum() * 0 + x * said[0].features[1],
    like,
    2.0,
  )
  assert reading.read == (True, False, True)
  assert reading.bytes == 4 * (3 + 5)
  whole = reading.give(reading.take(like), 2)
  assert jax.tree.map(jnp.shape, whole) == jax.tree.map(jnp.shape, like)


def test_validation_asks_the_teachers_once(teachers, monkeypatch):
  plan = planned(teachers)
  data = plan.evaluator.place(plan.splits.validation)
  state = plan.start()
  first = plan.evaluate(state, data)
  monkeypatch.setattr(plan.evaluator, "_say", None)
  assert plan.evaluate(state, data) == first
  small = Evaluator(plan.stages[0].objective, plan.replicas, 36, most_mb=0)
  own = (state.student, state.params["adapter"], plan.teachers)
  held = small.place(plan.splits.validation)
  assert small(own, held) == first
  assert held.said == []
