"""Many seeds in one program: each student is that of its lone run."""

import jax
import numpy as np
import pytest

from amtml_jax import commands, config, hear, metrics, trees
from amtml_jax.errors import DivergedError, InterruptedRun, UserError
from amtml_jax.plan import Plan
from amtml_jax.progress import Line, View
from amtml_jax.train import Training
from tests import blobs
from tests.settings import quick
from tests.train_test import Signalled


def settings(**changes):
  return quick(**{"data__views": 2, "seed": 3, "optimizer__ema": 0.5} | changes)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
  folder = tmp_path_factory.mktemp("teach")
  return commands.teach(settings(), folder, View()), folder / "outputs"


def training(taught, folder, **changes):
  teachers, kept = taught
  run = config.resolve(settings(**changes))
  alone = not run.needs_teachers
  plan = Plan(run, commands.load(run.data), None if alone else teachers)
  if not alone:
    plan.taught = hear.hear(plan, kept, View())
  return Training(plan, folder, View())


def finish(*args, **changes):
  go = training(*args, **changes)
  go.run(Line(View(), "student", go.plan.steps, go.at.step))
  return go


def host(go):
  return trees.to_host((go.state.params, go.state.ema))


@pytest.mark.parametrize(
  ("method", "lift", "student"),
  [
    ("amtml", "pmap", "mlp_small"),
    ("amtml", "jit", "mlp_small"),
    # Convolutions come one after the other on a CPU.
    ("alone", "pmap", "tests.tinynet"),
  ],
)
def test_each_is_its_lone_run(method, lift, student, taught, tmp_path):
  # The angle term's loops, too, but they compile for seconds.
  angle = 1.0 if (method, lift) == ("amtml", "pmap") else 0.0
  changes = dict(
    method=method, parallel=lift, terms__angle=angle, student=student
  )
  together = finish(taught, tmp_path / "all", seeds=2, **changes)
  (line, *_) = metrics.read(tmp_path / "all")
  for k in range(2):
    lone = finish(taught, tmp_path / str(k), seed=3 + k, **changes)
    jax.tree.map(
      lambda a, b, k=k: np.testing.assert_allclose(
        *(a[k], b), rtol=1e-4, atol=1e-5
      ),
      host(together),
      host(lone),
    )
    (own, *_) = metrics.read(tmp_path / str(k))
    one = line["validation/seeds"][k]["student"]
    assert one["accuracy"] == own["validation/student/accuracy"]
    trained = {n: own[f"train/{n}"] for n in line["train/seeds"][k]}
    assert line["train/seeds"][k] == pytest.approx(trained, rel=1e-3, abs=1e-5)
    assert {"loss", "accuracy"} <= set(trained)
  losses = [one["loss"] for one in line["train/seeds"]]
  assert line["train/loss"] == pytest.approx(np.mean(losses))
  # The two differ in more than rounding.
  kernels = jax.tree.leaves(host(together)[0]["student"])
  assert any(np.max(np.abs(x[0] - x[1])) > 0.01 for x in kernels)


def test_streamed_images_and_outputs_train_the_same(taught, tmp_path):
  for split in ("train", "test"):
    data = blobs.load(split)
    np.save(tmp_path / f"{split}_images.npy", data.image)
    np.save(tmp_path / f"{split}_labels.npy", data.label)
  np.save(tmp_path / "class_names.npy", np.array(blobs.CLASSES))
  changes = dict(data__source="npy", data__folder=str(tmp_path), seeds=2)
  found = []
  for megabytes in (4096, 0):
    run = config.resolve(settings(**changes, data__resident_mb=megabytes))
    plan = Plan(run, commands.load(run.data), taught[0])
    assert plan.splits.train.resident == bool(megabytes)
    plan.taught = hear.hear(plan, tmp_path / "outputs", View())
    go = Training(plan, tmp_path / str(megabytes), View())
    go.run(Line(View(), "student", plan.steps, 0))
    found.append(host(go))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    *found,
  )


def test_they_go_on_to_the_bit(taught, tmp_path):
  whole = finish(taught, tmp_path / "whole", seeds=2, epochs=3)
  with pytest.raises(InterruptedRun):
    training(taught, tmp_path / "parts", seeds=2, epochs=3).run(Signalled(4))
  go = finish(taught, tmp_path / "parts", seeds=2, epochs=3)
  jax.tree.map(np.testing.assert_array_equal, host(go), host(whole))


def test_the_second_stage_is_of_all(taught, tmp_path):
  go = finish(
    taught, tmp_path, seeds=2, adapter__schedule="two_stage", epochs=3
  )
  assert go.at.stage == 1
  assert {len(x) for x in jax.tree.leaves(go.state.opt_state)} == {2}


def test_the_summary_has_each_and_the_mean(tmp_path):
  made = settings(seeds=2, epochs=1)
  summary = commands.run(made, tmp_path, View())
  each = [own["student"]["test_accuracy"] for own in summary["seeds"]]
  assert [own["seed"] for own in summary["seeds"]] == [3, 4]
  assert summary["student"]["test_accuracy"] == pytest.approx(np.mean(each))
  one = config.resolve(settings(method="alone"))
  alone = Plan(one, commands.load(one.data), None)
  assert summary["student"]["parameters"] == alone.parameters
  assert commands.run(made, tmp_path, View()) == summary


def test_who_diverges_is_told(taught, tmp_path):
  changes = dict(method="alone", optimizer__learning_rate=1e30, epochs=4)
  with pytest.raises(DivergedError, match=r"of seed [34] turned (nan|inf) at"):
    finish(taught, tmp_path, seeds=2, **changes)


@pytest.mark.parametrize(
  ("changes", "sentence"),
  [
    (dict(data__views=0), "seeds=2 students share .* set config.data.views"),
    (dict(seed=2**31 - 1), "seed=2147483647 leaves no room for"),
    (dict(seeds=0), "config.seeds=0 must be"),
  ],
)
def test_what_cannot_be_is_a_sentence(changes, sentence):
  with pytest.raises(UserError, match=sentence):
    config.resolve(settings(**{"seeds": 2} | changes))
