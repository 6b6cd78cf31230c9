"""Trees of arrays: on the host, by their hash, and in a folder of their own.

Orbax itself restores flipped bytes silently as wrong values, so a hash of the
leaves travels with every tree and is checked when it comes back.
"""

from __future__ import annotations

import hashlib
import pathlib
import shutil
import time
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from amtml_jax import files
from amtml_jax.errors import DamagedError, NotSavedError


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


def first_not_finite(host: Any) -> str | None:
  """The path of a leaf that holds NaN or infinity."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(host):
    if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
      return jax.tree_util.keystr(path, simple=True, separator="/")
  return None


def empty(like: Any) -> Any:
  """Host arrays of the shapes that a restore expects."""
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)


def save_tree(folder: pathlib.Path, tree: Any) -> str:
  """Writes one tree to a folder of its own; returns its fingerprint.

  Raises:
    NotSavedError: the system refuses; nothing half-written is left.
  """
  host = to_host(tree)
  try:
    with ocp.StandardCheckpointer() as saver:
      saver.save(folder.absolute(), host, force=True)
  except Exception as error:  # OSError, ValueError of a full disk, ...
    _discard_half(folder)
    raise NotSavedError(
      f"{folder} could not be written: {files.reason(error)}"
    ) from None
  return fingerprint(host)


def _discard_half(folder: pathlib.Path) -> None:
  """Removes what a failed save has left.

  Its threads may write for a moment more: until nothing comes back, or they
  have had a second.
  """
  clean = 0
  for _ in range(20):
    halves = list(folder.parent.glob(f"{folder.name}.orbax-checkpoint-tmp*"))
    for half in halves:
      shutil.rmtree(half, ignore_errors=True)
    clean = 0 if halves else clean + 1
    if clean == 2:
      return
    time.sleep(0.05)


def restore_tree(folder: pathlib.Path, like: Any, expected: str) -> Any:
  """Reads a tree back, to host memory, if it is what was written.

  Raises:
    DamagedError: it is not there, unreadable, or has another fingerprint.
  """
  try:
    with ocp.StandardCheckpointer() as saver:
      tree = saver.restore(folder.absolute(), empty(like))
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


def host_like(like: Any) -> Any:
  """Host arrays of the shapes that `to_host` gives of a tree like this."""
  keyless = jax.eval_shape(
    lambda tree: jax.tree.map(
      lambda x: jax.random.key_data(x) if _is_key(x) else x, tree
    ),
    like,
  )
  return empty(keyless)
