"""Saving and restoring by Orbax, and knowing damage from data.

Orbax itself restores flipped bytes silently as wrong values, so a hash of the
leaves travels with every tree and is checked when it comes back.
"""

from __future__ import annotations

import hashlib
import pathlib
import time
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from amtml_jax.errors import DamagedError, UserError

VALIDATION = "validation_accuracy"


def _is_key(leaf: Any) -> bool:
  return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def to_host(tree: Any) -> Any:
  """A copy in host memory of its own; typed keys as their counters.

  A copy, because the arrays are donated to the next step while Orbax still
  writes, and on a CPU a view would be of that very memory.
  """
  data = jax.tree.map(
    lambda x: jax.random.key_data(x) if _is_key(x) else x, tree
  )
  return jax.tree.map(lambda x: np.array(x, copy=True), jax.device_get(data))


def from_host(tree: Any, like: Any) -> Any:
  """The inverse of `to_host`; `like` says where the keys are."""
  return jax.tree.map(
    lambda x, was: jax.random.wrap_key_data(x) if _is_key(was) else x,
    tree,
    like,
  )


def fingerprint(tree: Any) -> str:
  """SHA-256 over every leaf's path, type, shape and bytes."""
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    array = np.ascontiguousarray(leaf)
    head = f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape};"
    digest.update(head.encode())
    digest.update(array.tobytes())
  return digest.hexdigest()


def structure(tree: Any) -> str:
  """SHA-256 over every leaf's path, type and shape: what network it is of."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  lines = [
    f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}"
    for path, leaf in leaves
  ]
  return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _empty(like: Any) -> Any:
  """Host arrays of the shapes that a restore expects."""
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)


def save_tree(folder: pathlib.Path, tree: Any) -> str:
  """Writes one tree to a folder of its own; returns its fingerprint."""
  host = to_host(tree)
  with ocp.StandardCheckpointer() as saver:
    saver.save(folder.absolute(), host, force=True)
  return fingerprint(host)


def restore_tree(folder: pathlib.Path, like: Any, expected: str) -> Any:
  """Reads a tree back, to host memory, if it is what was written.

  Raises:
    DamagedError: it is not there, unreadable, or has another fingerprint.
  """
  try:
    with ocp.StandardCheckpointer() as saver:
      tree = saver.restore(folder.absolute(), _empty(like))
  except Exception as error:  # Orbax raises a bare Exception on damage
    reason = str(error).strip().splitlines()[0][:200] if str(error) else ""
    raise DamagedError(
      f"{folder} is missing or damaged ({type(error).__name__}: {reason})"
    ) from None
  if fingerprint(tree) != expected:
    raise DamagedError(
      f"{folder} is damaged: its fingerprint is not {expected}"
    )
  return tree


class Checkpoints:
  """The states of one run: the newest few, and the best by validation."""

  def __init__(self, folder: pathlib.Path, keep: int):
    self.folder = folder.absolute()
    policy = preservation_policy.AnyPreservationPolicy(
      [
        preservation_policy.LatestN(keep),
        preservation_policy.BestN(
          get_metric_fn=lambda metrics: metrics[VALIDATION], n=1
        ),
      ]
    )
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policy, best_fn=lambda m: m[VALIDATION]
      ),
    )

  def save(self, step: int, state: Any, meta: dict, accuracy: float) -> None:
    """Copies the state and writes it in the background.

    What a step of that number holds already was found damaged, or it would
    not be made again: it is moved aside, not removed.
    """
    if step in self._manager.all_steps():
      aside = self.folder.with_name("damaged")
      aside.mkdir(exist_ok=True)
      kept = aside / f"{step}-{time.time_ns()}"
      (self.folder / str(step)).rename(kept)
      self._manager.reload()
    host = to_host(state)
    meta = {
      "progress": meta,
      "fingerprint": fingerprint(host),
      "structure": structure(host),
    }
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(host), meta=ocp.args.JsonSave(meta)
      ),
      metrics={VALIDATION: accuracy},
    )

  def wait(self) -> None:
    """Until everything is on disk."""
    self._manager.wait_until_finished()

  def steps(self) -> list[int]:
    """The steps that have a checkpoint, oldest first."""
    return sorted(self._manager.all_steps())

  def meta(self, step: int) -> dict:
    """What was saved beside the state."""
    return self._meta(step)["progress"]

  def _meta(self, step: int) -> dict:
    args = ocp.args.Composite(meta=ocp.args.JsonRestore())
    try:
      return self._manager.restore(step, args=args)["meta"]
    except Exception as error:  # Orbax raises a bare Exception on damage
      raise self._damaged(step, type(error).__name__) from None

  def _damaged(self, step: int, reason: str) -> DamagedError:
    return DamagedError(
      f"the checkpoint of step {step} in {self.folder} is damaged ({reason})"
    )

  def best(self) -> int | None:
    """The step with the best validation accuracy."""
    return self._manager.best_step()

  def restore(self, step: int, like: Any) -> Any:
    """The state of a step.

    Raises:
      DamagedError: the files are damaged.
      UserError: they are whole, and of another network.
    """
    empty, meta = _host_like(like), self._meta(step)
    if meta["structure"] != structure(empty):
      raise UserError(
        f"the checkpoint of step {step} in {self.folder} is of another "
        "network or optimizer; use another --workdir"
      )
    try:
      restore = ocp.args.StandardRestore(empty)
      args = ocp.args.Composite(state=restore)
      host = self._manager.restore(step, args=args)["state"]
    except Exception as error:  # Orbax raises a bare Exception on damage
      raise self._damaged(step, type(error).__name__) from None
    if fingerprint(host) != meta["fingerprint"]:
      raise self._damaged(step, "other bytes than were written")
    return from_host(host, like)

  def close(self) -> None:
    """Waits, and frees what Orbax holds."""
    self._manager.close()


def _host_like(like: Any) -> Any:
  keyless = jax.eval_shape(
    lambda tree: jax.tree.map(
      lambda x: jax.random.key_data(x) if _is_key(x) else x, tree
    ),
    like,
  )
  return _empty(keyless)
