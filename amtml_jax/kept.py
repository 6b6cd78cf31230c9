"""Arrays kept on disk for later runs, each with what it is of and its hash.

    FOLDER/NAME.json            what the array is of, and the hash of its file
    FOLDER/NAME-HASH.npy        the array

The words are written last: an array with words is whole. They say what it is
of, so that one that was put there for something else is not taken for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from amtml_jax import files
from amtml_jax.errors import DamagedError, NotSavedError


class Writing:
  """An array on its way to the disk, in the order of its rows."""

  def __init__(self, path: pathlib.Path, shape: tuple[int, ...], dtype: Any):
    self.path = path
    self._rows, self._like = 0, np.empty((0, *shape[1:]), dtype)
    self._size = shape[0]
    self._digest = hashlib.sha256()
    self._file: BinaryIO = path.open("wb")
    header = np.lib.format.header_data_from_array_1_0(self._like)
    np.lib.format.write_array_header_2_0(self, {**header, "shape": shape})

  def write(self, data: bytes) -> None:
    """Plain writes: a full disk is an OSError, under a memory map a signal."""
    self._file.write(data)
    self._digest.update(data)

  def append(self, rows: np.ndarray) -> None:
    """The next rows."""
    if rows.dtype != self._like.dtype or rows.shape[1:] != self._like.shape[1:]:
      raise ValueError(f"{rows.dtype}{rows.shape} in {self.path}")
    self._rows += len(rows)
    self.write(np.ascontiguousarray(rows).tobytes())

  def close(self) -> str:
    """Its hash, when all rows are there and on the disk."""
    if self._rows != self._size:
      raise ValueError(f"{self._rows} rows of {self._size} in {self.path}")
    self._file.flush()
    os.fsync(self._file.fileno())
    self._file.close()
    return self._digest.hexdigest()

  def drop(self) -> None:
    """Gives up what is not closed."""
    with contextlib.suppress(OSError):  # what was buffered fails once more
      self._file.close()
    self.path.unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class Kept:
  """The arrays of one folder.

  Attributes:
    folder: where they are.
    of: what they are of, as JSON; the same for all.
  """

  folder: pathlib.Path
  of: dict[str, Any]

  def find(self, name: str) -> np.ndarray | None:
    """The array, memory-mapped; None where it was never kept.

    Raises:
      DamagedError: its files are not what was written, or are of another.
    """
    path = self.folder / f"{name}.json"
    try:
      words = json.loads(path.read_bytes())
    except FileNotFoundError:
      return None
    except (OSError, ValueError, RecursionError):
      words = {}
    try:
      same = words.pop("digest") == files.digest(words)
      array = np.load(
        self._array(name, words["sha256"]), mmap_mode="r", allow_pickle=False
      )
      with self._array(name, words["sha256"]).open("rb") as file:
        whole = hashlib.file_digest(file, "sha256").hexdigest()
      whole_and_ours = same and whole == words["sha256"]
      whole_and_ours = whole_and_ours and words["of"] == self.of
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
      whole_and_ours = False
    if not whole_and_ours:
      raise DamagedError(f"{path} is damaged, or of something else")
    return array

  def _array(self, name: str, digest: str) -> pathlib.Path:
    return self.folder / f"{name}-{digest[:16]}.npy"

  @contextlib.contextmanager
  def writing(
    self, arrays: dict[str, tuple[tuple[int, ...], Any]]
  ) -> Iterator[dict[str, Writing]]:
    """Files for arrays of these shapes and types; there when the block ends.

    One process at a time writes to a folder.

    Raises:
      NotSavedError: the system refuses; nothing half-written is left.
    """
    opened: dict[str, Writing] = {}
    try:
      self.folder.mkdir(parents=True, exist_ok=True)
      for name, (shape, dtype) in arrays.items():
        for lost in self.folder.glob(f".{name}.*"):  # of a run that was killed
          lost.unlink()
        beside = self.folder / f".{name}.{os.getpid()}"
        opened[name] = Writing(beside, shape, dtype)
      yield opened
      for name, array in opened.items():
        digest = array.close()
        array.path.replace(self._array(name, digest))
        words = {"of": self.of, "sha256": digest}
        words["digest"] = files.digest(words)
        files.replace(self.folder / f"{name}.json", json.dumps(words, indent=2))
        for other in self.folder.glob(f"{name}-*.npy"):
          if other != self._array(name, digest):
            other.unlink(missing_ok=True)
    except OSError as error:
      raise NotSavedError(
        f"{self.folder} could not be written: {error.strerror}"
      ) from None
    finally:
      for array in opened.values():
        array.drop()
