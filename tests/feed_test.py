"""A set that streams trains as one on the devices does."""

import contextlib

import jax
import numpy as np
import pytest

from amtml_jax import commands, config, feed, metrics, parallel, trees
from amtml_jax.errors import InterruptedRun
from amtml_jax.plan import Plan
from amtml_jax.progress import Line, View
from amtml_jax.train import Training
from tests import blobs as source
from tests.settings import blobs
from tests.train_test import Signalled, compilations


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("npy")
  for split in ("train", "test"):
    data = source.load(split)
    np.save(folder / f"{split}_images.npy", data.image)
    np.save(folder / f"{split}_labels.npy", data.label)
  np.save(folder / "class_names.npy", np.array(source.CLASSES))
  return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def settings(folder, megabytes, **changes):
  return blobs(
    method="alone",
    student="tests.tinynet",
    epochs=3,
    data__source="npy",
    data__folder=str(folder),
    data__resident_mb=megabytes,
    **changes,
  )


def training(config_, workdir):
  run = config.resolve(config_)
  return Training(Plan(run, commands.load(run.data), None), workdir, View())


def finish(config_, workdir):
  go = training(config_, workdir)
  go.run(Line(View(), "student", go.plan.steps, go.at.step))
  return go


def weights(go):
  return trees.to_host(go.state.params)


@pytest.mark.parametrize("lift", ["pmap", "jit"])
def test_streamed_is_resident(lift, folder, tmp_path):
  resident = finish(settings(folder, 1, parallel=lift), tmp_path / "resident")
  go = training(settings(folder, 0, parallel=lift), tmp_path / "streamed")
  assert not go.plan.splits.train.resident
  with compilations() as names:
    go.run(Line(View(), "student", 9, 0))
  assert len(names) == 3, names
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    weights(go),
    weights(resident),
  )
  now, before = (
    metrics.read(tmp_path / name)[-1] for name in ("streamed", "resident")
  )
  assert now["validation/student/accuracy"] == pytest.approx(
    before["validation/student/accuracy"]
  )


def test_a_streamed_run_resumes_to_the_bit(folder, tmp_path):
  config_ = settings(folder, 0)
  whole = finish(config_, tmp_path / "whole")
  for dispatches in (2, 3):
    go = training(config_, tmp_path / "parts")
    with contextlib.suppress(InterruptedRun):
      go.run(Signalled(dispatches))
  go = finish(config_, tmp_path / "parts")
  assert go.at.step == whole.at.step == 9
  jax.tree.map(np.testing.assert_array_equal, weights(go), weights(whole))


@pytest.mark.parametrize("lift", ["pmap", "jit"])
def test_the_same_pictures_reach_the_step(lift, folder):
  """Rows, crops and flips, on 1, 2 and 4 devices, resident and streamed."""
  run = config.resolve(settings(folder, 0))
  seen = []
  for megabytes in (0, 1):
    train = commands.load(
      config.resolve(settings(folder, megabytes)).data
    ).train
    for devices in (1, 2, 4):
      replicas = parallel.replicas(devices, lift)
      source_ = feed.Feed(run, train, replicas)
      fed, epochs = source_.next(4, 1)
      source_.close()
      first = jax.tree.map(lambda x: x[0], fed)
      if lift == "pmap":  # (devices, rows, ...)
        first = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), first)
      seen.append(
        feed.drawn(
          source_.shared[0],
          first[0],
          key=jax.random.key(1),
          epoch=epochs[0],
          pad=1,
          flip=True,
        )
      )
  for batch in seen[1:]:
    jax.tree.map(np.testing.assert_array_equal, batch, seen[0])


def test_streamed_images_are_not_gathered_across_devices():
  replicas = parallel.replicas(4, "jit")
  rows = np.arange(8, dtype=np.int32)
  fed = (rows, np.zeros((8, 4, 4, 1), np.uint8), rows)

  def drawn(variables, shared, fed):
    key = jax.random.key(variables)
    return feed.drawn(shared, fed, key=key, epoch=0, pad=1, flip=True).image

  lifted = replicas.lift_sums(lambda *args: drawn(*args).sum())
  text = lifted.lower(0, (), fed).compile().as_text()
  assert "all-reduce" in text
  assert "all-gather" not in text
