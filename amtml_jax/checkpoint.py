"""The states of a run: saved in the background, restored if they are whole."""

from __future__ import annotations

import errno
import json
import pathlib
import shutil
import time
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from amtml_jax import files, processes, trees
from amtml_jax.errors import (
  DamagedError,
  DivergedError,
  LostProcessError,
  NotSavedError,
  UserError,
)

VALIDATION = "validation_accuracy"


# How long the processes of a run wait for each other's part of a save. Shorter
# than the 100 s after which jax aborts those that a dead process left alone.
PATIENCE = 90
# How long a process alone waits for its disk, or to be woken up again.
ALONE = 3600
# What the system says of files that may be whole all the same.
_UNREADABLE = (errno.EACCES, errno.EIO, errno.ENOMEM, errno.EPERM, errno.ESTALE)


def _check_readable(step: pathlib.Path, error: Exception) -> None:
  """Refuses to call damaged what cannot be read just now."""
  number = files.system_error(error)
  if number in _UNREADABLE or isinstance(error, MemoryError):
    raise UserError(
      f"the checkpoint {step} cannot be read ({files.reason(error)}); mend "
      "that, or remove it to go on from the one before"
    ) from None


def _told(step: pathlib.Path) -> dict | None:
  """What a checkpoint says of itself, if it is what was written."""
  try:
    meta = json.loads((step / "meta" / "metadata").read_bytes())
    metrics = json.loads((step / "metrics" / "metrics").read_bytes())
    written = meta.pop("digest") == files.digest(meta)
    same = metrics[VALIDATION] == meta["accuracy"]
  except (
    *(OSError, ValueError, TypeError, KeyError, AttributeError),
    RecursionError,  # brackets without end
  ) as error:
    _check_readable(step, error)
    return None
  return meta if written and same else None


class Checkpoints:
  """The states of one run: the newest few, and the best by validation."""

  def __init__(self, folder: pathlib.Path, keep: int):
    self.folder = folder.absolute()
    self.damaged = self._set_aside()
    policy = preservation_policy.AnyPreservationPolicy(
      [
        preservation_policy.LatestN(keep),
        preservation_policy.BestN(
          get_metric_fn=lambda metrics: metrics[VALIDATION], n=1
        ),
      ]
    )
    patience = PATIENCE if processes.several() else ALONE
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policy,
        best_fn=lambda m: m[VALIDATION],
        async_options=ocp.AsyncOptions(timeout_secs=patience),
      ),
    )

  def _set_aside(self) -> tuple[int, ...]:
    """Moves away what does not tell what it is, and says which steps.

    One such step, damaged or half removed, and Orbax opens none of the others.
    """
    self._clear()
    steps, damaged = [], []
    if processes.first():  # the others may look while this one moves
      steps = self.steps()
      damaged = [s for s in steps if _told(self.folder / str(s)) is None]
    if processes.told(bool(steps) and steps == damaged):
      raise self.all_damaged()
    self._move(damaged)
    return tuple(damaged)

  def set_aside(self, steps: list[int]) -> None:
    """Moves damaged steps to `damaged/`, so that nothing mistakes them.

    Orbax saves no step that comes before one that is there.
    """
    self._move(steps)
    self._manager.reload()

  def _move(self, steps: list[int]) -> None:
    for step in steps if processes.first() else ():
      aside = self.folder.with_name("damaged")
      aside.mkdir(exist_ok=True)
      kept = aside / f"{step}-{time.time_ns()}"
      (self.folder / str(step)).rename(kept)
    processes.meet("damaged steps moved aside")

  def all_damaged(self) -> DamagedError:
    """What to say when nothing can be restored."""
    return DamagedError(
      f"every checkpoint in {self.folder} is damaged; remove the folder to "
      "start again"
    )

  def save(self, step: int, state: Any, meta: dict, accuracy: float) -> None:
    """Copies the state and writes it in the background; every process calls.

    Raises:
      DivergedError: the state is not finite; nothing is written.
      NotSavedError: this save, or the one before, could not be written.
      LostProcessError: another process is gone, or could not write.
    """
    self.wait()
    host = trees.to_host(state)
    bad = trees.first_not_finite(host)
    if bad:
      raise DivergedError(
        f"{bad} is no longer finite at step {step}; this state was not saved, "
        f"{self.last()}"
      )
    meta = {
      "progress": meta,
      "accuracy": accuracy,
      "fingerprint": trees.fingerprint(host),
      "structure": trees.structure(host),
    }
    meta["digest"] = files.digest(meta)
    args = ocp.args.Composite(
      state=ocp.args.StandardSave(host), meta=ocp.args.JsonSave(meta)
    )
    try:
      saved = self._manager.save(
        step, args=args, metrics={VALIDATION: accuracy}
      )
    except Exception as error:  # OSError, ValueError of a full disk, ...
      raise self._not_saved(error) from None
    if not saved:  # it is older than what is there
      raise self._not_saved(ValueError(f"step {step} is there already"))

  def wait(self) -> None:
    """Until everything is on disk.

    Raises:
      NotSavedError: it could not be written.
    """
    try:
      self._manager.wait_until_finished()
    except Exception as error:  # as in save
      raise self._not_saved(error) from None

  def check(self) -> None:
    """Raises NotSavedError if the save in the background has failed."""
    try:
      self._manager.check_for_errors()
    except Exception as error:  # as in save
      raise self._not_saved(error) from None

  def _not_saved(self, error: Exception) -> NotSavedError | LostProcessError:
    """Clears what a failed save left, and says what is there."""
    self._clear()
    reason = files.reason(error)
    if processes.several() and files.system_error(error) is None:
      return LostProcessError(
        f"another process of this run is gone, or could not write ({reason}); "
        f"{self.last()}, and the same command in every process goes on from it"
      )
    return NotSavedError(
      f"a checkpoint could not be written to {self.folder} ({reason}); "
      f"{self.last()}"
    )

  def _clear(self) -> None:
    """Removes what is half written; at a start, nobody is writing it.

    After a failure Orbax's other writers may still be at work and put a part
    back: it is no step, and the next start removes it.
    """
    for half in self.folder.glob("*.orbax-checkpoint-tmp"):
      if processes.first():
        shutil.rmtree(half, ignore_errors=True)

  def last(self) -> str:
    """Which checkpoint a run would go on from, as a clause."""
    steps = self.steps()
    if not steps:
      return "no checkpoint is there yet"
    return f"the checkpoint of step {steps[-1]} is whole"

  def steps(self) -> list[int]:
    """The steps that have a checkpoint, oldest first."""
    # Of the disk: the manager also counts what it is writing.
    steps = [p.name for p in self.folder.glob("*") if p.name.isdecimal()]
    return sorted(map(int, steps))

  def meta(self, step: int) -> dict:
    """What was saved beside the state."""
    return self._meta(step)["progress"]

  def fingerprint(self, step: int) -> str:
    """SHA-256 of the state, as it was saved."""
    return self._meta(step)["fingerprint"]

  def _meta(self, step: int) -> dict:
    meta = _told(self.folder / str(step))
    if meta is None:
      raise self._damaged(step, "other words than were written")
    return meta

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
    empty, meta = trees.host_like(like), self._meta(step)
    if meta["structure"] != trees.structure(empty):
      raise UserError(
        f"the checkpoint of step {step} in {self.folder} is of another "
        "network or optimizer; use another --workdir"
      )
    try:
      restore = ocp.args.StandardRestore(empty)
      args = ocp.args.Composite(state=restore)
      host = self._manager.restore(step, args=args)["state"]
    except Exception as error:  # Orbax raises a bare Exception on damage
      _check_readable(self.folder / str(step), error)
      raise self._damaged(step, type(error).__name__) from None
    if trees.fingerprint(host) != meta["fingerprint"]:
      raise self._damaged(step, "other bytes than were written")
    return trees.from_host(host, like)

  def close(self) -> None:
    """Waits, and frees what Orbax holds."""
    self._manager.close()
