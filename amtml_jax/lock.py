"""One run at a time in a workdir."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import platform
import time
from collections.abc import Callable, Iterator

from amtml_jax import files, processes
from amtml_jax.errors import UserError

FILE = ".lock"
_held: set[pathlib.Path] = set()


class InUseError(UserError):
  """Another live process holds the folder."""


@contextlib.contextmanager
def held(workdir: pathlib.Path, flag: str = "--workdir") -> Iterator[None]:
  """Holds the workdir; what this process holds already, it may hold again.

  The system gives the lock back when the process ends, however it ends, so a
  lock that outlives its run does not exist. The file goes with the lock, and
  with it a workdir that is still empty.

  Args:
    workdir: the value of a flag.
    flag: its name, for the sentences.

  Raises:
    InUseError: another live process holds it.
  """
  path = workdir.absolute() / FILE
  if path in _held:
    yield
    return
  above = (workdir, *workdir.parents)
  made = [p for p in above if not os.path.exists(p)]
  lock = None
  try:
    if processes.first():
      place = files.writable(workdir, flag).absolute()
      lock = _locked(place / FILE, flag)
  finally:
    refused = not processes.told(lock is not None)
  if refused:
    raise InUseError(f"the first process may not use {flag}={workdir}")
  if not processes.first() and not _seen(path):
    raise UserError(
      f"{flag}={workdir} is another folder here than in the first process; "
      "use one on a file system that all share"
    )
  _held.add(path)
  try:
    yield
  finally:
    _held.remove(path)
    if lock is not None:
      path.unlink(missing_ok=True)
      os.close(lock)
    with contextlib.suppress(OSError):  # what is in use stays
      for folder in made:
        folder.rmdir()


@contextlib.contextmanager
def turn(
  folder: pathlib.Path,
  say: Callable[[str], None],
  flag: str = "--workdir",
) -> Iterator[None]:
  """Holds a folder that several runs share; waits while another has it."""
  with contextlib.ExitStack() as stack:
    told = False
    while True:
      try:
        stack.enter_context(held(folder, flag))
        break
      except InUseError as error:
        if not told:
          say(f"waiting: {str(error).partition(';')[0]}")
        told = True
        time.sleep(0.5)
    yield


def _seen(path: pathlib.Path, seconds: float = 30.0) -> bool:
  """Whether the first process's file is here; a shared disk takes a while."""
  end = time.monotonic() + seconds
  while not path.exists() and time.monotonic() < end:
    time.sleep(0.2)
  return path.exists()


def _locked(path: pathlib.Path, flag: str) -> int:
  while True:
    try:
      lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
      raise UserError(f"cannot write {path}: {error.strerror}") from None
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      who = os.pread(lock, 200, 0).decode(errors="replace") or "another process"
      os.close(lock)
      raise InUseError(
        f"{flag}={path.parent} is in use by {who}; wait for it, or use "
        "another folder"
      ) from None
    except OSError:  # a file system without locks
      break
    # Its last holder may have removed the file that was opened above.
    with contextlib.suppress(FileNotFoundError):
      if os.fstat(lock).st_ino == path.stat().st_ino:
        break
    os.close(lock)
  with contextlib.suppress(OSError):  # the name is a courtesy
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()} on {platform.node()}".encode(), 0)
  return lock
