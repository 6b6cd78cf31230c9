"""Small files, written whole or not at all."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from amtml_jax.errors import UserError


def write(path: pathlib.Path, text: str) -> None:
  """Writes beside the file and renames: a reader never sees half of it."""
  path.parent.mkdir(parents=True, exist_ok=True)
  beside = path.with_name(f".{path.name}.{os.getpid()}")
  with beside.open("w", encoding="utf-8") as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  beside.replace(path)


def write_json(path: pathlib.Path, value: Any) -> None:
  """Indented, in the order given."""
  write(path, json.dumps(value, indent=2) + "\n")


def read_json(path: pathlib.Path, what: str) -> Any:
  """The file's value; `what` names it in the sentence where it is damaged."""
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise UserError(f"{what} {path} cannot be read: {error}") from None


def writable(folder: pathlib.Path) -> pathlib.Path:
  """Makes the folder if it is not there; refuses one it may not write to."""
  try:
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".write-{os.getpid()}"
    probe.touch()
    probe.unlink()
  except OSError as error:
    raise UserError(
      f"--workdir={folder} is not writable: {error.strerror}; choose another"
    ) from None
  return folder


def plain(value: Any) -> Any:
  """The value as JSON would give it back: tuples are lists."""
  return json.loads(json.dumps(value))
