"""Fingerprints, and trees that come back as they were."""

import contextlib
import errno
import resource
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax import checkpoint, parallel, trees
from amtml_jax.errors import (
  DamagedError,
  DivergedError,
  LostProcessError,
  NotSavedError,
  UserError,
)

TREE = {
  "params": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.ones(3)},
  "batch_stats": {},
}


def changed(tree, change):
  host = trees.to_host(tree)
  host["params"]["kernel"] = change(host["params"]["kernel"])
  return host


@pytest.mark.parametrize(
  "change",
  [
    lambda x: x + np.float32(1e-7) * (x == 1),
    lambda x: x.reshape(3, 2),
    lambda x: x.view(np.int32),
    lambda x: x.T.copy().T + 0 * x[::-1, ::-1] + x[::-1] - x[::-1] + 1,
  ],
)
def test_a_fingerprint_is_of_values_shapes_and_types(change):
  before = trees.fingerprint(trees.to_host(TREE))
  assert trees.fingerprint(changed(TREE, change)) != before
  assert trees.fingerprint(changed(TREE, np.array)) == before


def test_a_fingerprint_is_of_names():
  one = {"a": np.ones(2), "b": np.zeros(2)}
  two = {"a": np.zeros(2), "b": np.ones(2)}
  three = {"b": np.ones(2), "c": np.zeros(2)}
  prints = {trees.fingerprint(t) for t in (one, two, three)}
  assert len(prints) == 3


def test_a_tree_comes_back(tmp_path):
  print_ = trees.save_tree(tmp_path / "tree", TREE)
  back = trees.restore_tree(tmp_path / "tree", TREE, print_)
  jax.tree.map(np.testing.assert_array_equal, back, trees.to_host(TREE))
  with pytest.raises(DamagedError, match="its fingerprint is not"):
    trees.restore_tree(tmp_path / "tree", TREE, "0" * 64)
  with pytest.raises(DamagedError, match="missing or damaged"):
    trees.restore_tree(tmp_path / "none", TREE, print_)


def test_keys_come_back_and_the_newest_and_the_best_are_kept(tmp_path):
  saved = checkpoint.Checkpoints(tmp_path, keep=2)
  like = {"rng": jax.random.key(0), "x": jnp.zeros(2)}
  for step, accuracy in enumerate([0.5, 0.9, 0.7, 0.9, 0.6, -1.0]):
    state = {"rng": jax.random.key(step), "x": jnp.full(2, float(step))}
    saved.save(step, state, {"step": step}, accuracy)
  saved.wait()
  assert saved.best() == 3
  assert saved.steps() == [3, 4, 5]
  back = saved.restore(4, jax.eval_shape(lambda: like))
  np.testing.assert_array_equal(
    jax.random.key_data(back["rng"]), jax.random.key_data(jax.random.key(4))
  )
  assert saved.meta(4) == {"step": 4}
  saved.close()


def test_what_is_not_finite_is_not_saved(tmp_path):
  saved = checkpoint.Checkpoints(tmp_path, keep=2)
  saved.save(1, {"a": {"b": jnp.ones(2)}}, {}, 0.5)
  with pytest.raises(DivergedError, match=r"a/b is no longer finite at step 2"):
    saved.save(2, {"a": {"b": jnp.array([1.0, jnp.nan])}}, {}, 0.5)
  assert saved.steps() == [1]
  saved.close()


def test_what_is_saved_does_not_follow_the_donated_buffer(tmp_path):
  saved = checkpoint.Checkpoints(tmp_path, keep=1)
  place = parallel.replicas().place
  state = place({"x": jnp.arange(4.0)})
  saved.save(1, state, {}, 0.5)
  double = jax.jit(lambda s: {"x": 2 * s["x"]}, donate_argnums=0)
  for _ in range(3):
    state = double(state)
  saved.wait()
  back = saved.restore(1, jax.eval_shape(lambda: state))
  np.testing.assert_array_equal(back["x"], np.arange(4.0))
  saved.close()


def test_a_full_disk_leaves_no_half_tree(tmp_path):
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (8, hard))
  try:
    with pytest.raises(NotSavedError, match="tree could not be written: File"):
      trees.save_tree(tmp_path / "tree", TREE)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert list(tmp_path.iterdir()) == []


def test_what_a_failed_save_writes_late_goes_too(tmp_path, monkeypatch):
  half = tmp_path / "tree.orbax-checkpoint-tmp"

  def write_on():
    for number in range(30):
      with contextlib.suppress(FileNotFoundError):
        half.mkdir(exist_ok=True)
        (half / str(number)).touch()
      time.sleep(0.01)

  def save(*_, **__):
    late.start()
    raise OSError("File too large")

  late = threading.Thread(target=write_on)
  monkeypatch.setattr(trees.ocp.StandardCheckpointer, "save", save)
  with pytest.raises(NotSavedError, match="File too large"):
    trees.save_tree(tmp_path / "tree", TREE)
  late.join()
  assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_just_now_is_not_called_damaged(
  tmp_path, monkeypatch
):
  saved = checkpoint.Checkpoints(tmp_path, keep=2)
  saved.save(1, {"x": jnp.ones(2)}, {}, 0.5)
  saved.wait()

  def fails(*_, **__):
    raise OSError(errno.EIO, "as the disk says")

  with monkeypatch.context() as patch:
    patch.setattr(saved._manager, "restore", fails)
    with pytest.raises(UserError, match=r"1 cannot be read .Input/ou") as e:
      saved.restore(1, {"x": jnp.ones(2)})
    assert not isinstance(e.value, DamagedError)
  with monkeypatch.context() as patch:
    patch.setattr("pathlib.Path.read_bytes", fails)
    with pytest.raises(UserError, match="cannot be read"):
      checkpoint.Checkpoints(tmp_path, keep=2)
  assert saved.steps() == [1]
  saved.close()


def test_of_several_processes_only_the_one_with_a_full_disk_says_so(
  tmp_path, monkeypatch
):
  saved = checkpoint.Checkpoints(tmp_path, keep=2)
  barrier, disk = ValueError("DEADLINE_EXCEEDED: barrier"), OSError(28, "full")
  monkeypatch.setattr(checkpoint.processes, "several", lambda: True)
  assert isinstance(saved._not_saved(barrier), LostProcessError)
  # The process that could not write waits for the others in vain, too.
  barrier.__context__ = disk
  said = saved._not_saved(barrier)
  assert isinstance(said, NotSavedError)
  assert "(No space left on device)" in str(said)
  monkeypatch.undo()
  saved.close()
