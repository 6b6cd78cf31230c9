"""Small files, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import re
from typing import Any

from amtml_jax import processes
from amtml_jax.errors import NotSavedError, UserError


def system_error(error: BaseException | None) -> int | None:
  """The system's number of what went wrong, if it was the system."""
  while error is not None:
    # TensorStore tells the number inside a long sentence of its own.
    code = re.search(r"os_error_code='(\d+)'", str(error))
    number = int(code[1]) if code else getattr(error, "errno", None)
    if number in errno.errorcode:
      return number
    # What processes say of a write that failed in one of them comes after.
    error = error.__cause__ or error.__context__
  return None


def reason(error: BaseException) -> str:
  """The system's own words where there are some: `No space left on device`."""
  number = system_error(error)
  if number is not None:
    return os.strerror(number)
  lines = str(error).strip().splitlines() or [""]
  return f"{type(error).__name__}: {lines[0][:200]}"


def replace(path: pathlib.Path, text: str) -> None:
  """Writes beside the file and renames: a reader never sees half of it.

  Raises:
    NotSavedError: it cannot be written; what was there before still is.
  """
  beside = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with beside.open("w", encoding="utf-8") as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    beside.replace(path)
  except OSError as error:
    with contextlib.suppress(OSError):
      beside.unlink(missing_ok=True)
    raise NotSavedError(
      f"{path} could not be written: {error.strerror}"
    ) from None


def write(path: pathlib.Path, text: str) -> None:
  """Replaces the file; every process calls this.

  The first one writes, and all go on when it is there.
  """
  if processes.first():
    replace(path, text)
  processes.meet(f"{path} written")


def write_json(path: pathlib.Path, value: Any) -> None:
  """Indented, in the order given."""
  write(path, json.dumps(value, indent=2) + "\n")


def read_json(path: pathlib.Path, what: str, fix: str) -> Any:
  """The file's value; `what` and `fix` stand in the sentence of a damaged one.

  Raises:
    UserError: it is not there, not readable, or no JSON.
  """
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except OSError as error:
    reason = error.strerror
  except (ValueError, RecursionError) as error:
    reason = f"it is no JSON ({error})"
  raise UserError(f"{what} {path} cannot be read: {reason}; {fix}")


def writable(folder: pathlib.Path, flag: str = "--workdir") -> pathlib.Path:
  """Makes the folder if it is not there; refuses one it may not write to.

  Args:
    folder: the value of a flag.
    flag: its name, for the sentence.
  """
  if not processes.first():
    return folder
  try:
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".write-{os.getpid()}"
    probe.touch()
    probe.unlink()
  except OSError as error:
    raise UserError(
      f"{flag}={folder} is not writable: {error.strerror}; choose another"
    ) from None
  return folder


def digest(value: Any) -> str:
  """SHA-256 of a value as JSON: what was written is what is read."""
  text = json.dumps(value, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
  """The value as JSON would give it back: tuples are lists."""
  return json.loads(json.dumps(value))
