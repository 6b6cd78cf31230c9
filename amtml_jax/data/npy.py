"""A folder of plain arrays, {train,test}_{images,labels}.npy.

Images are `(N, H, W)` or `(N, H, W, channels)`, uint8; labels are integers
from 0. `class_names.npy`, an array of strings, may be there too. A split that
does not fit in memory is read where it lies.
"""

from __future__ import annotations

import io
import os
import pathlib

import numpy as np

from amtml_jax.data import checked, index, streamed
from amtml_jax.errors import UserError
from amtml_jax.types import Dataset


def load(
  split: str, *, folder: str = "", name: str = "", image_size: int = 0
) -> Dataset:
  """One split of the folder; `name` and `image_size` are ignored."""
  found = examples(split, folder=folder, name=name, image_size=image_size)
  return streamed.collected(found)


def examples(
  split: str, *, folder: str = "", name: str = "", image_size: int = 0
) -> Arrays:
  """The same split where it lies.

  Without `class_names.npy` the classes are the numbers that the training
  labels use.
  """
  del name, image_size
  checked.split(split)
  if not folder:
    raise UserError("npy needs a folder; set --config.data.folder to its path")
  root = pathlib.Path(folder).expanduser()
  if not os.path.isdir(root):  # pathlib's raises for a name too long
    raise UserError(f"there is no folder {root}; set --config.data.folder")
  return Arrays(root, split)


class Arrays:
  """A split's `types.Examples`.

  Images are read by their place in the file. A mapped file's pages would count
  as the process's memory, more and more of them while a run goes on.
  """

  def __init__(self, root: pathlib.Path, split: str):
    self._path = root / f"{split}_images.npy"
    labels = root / f"{split}_labels.npy"
    image, label = _array(self._path, mapped=True), _array(labels)
    if not image.flags.c_contiguous:
      raise UserError(
        f"{self._path} is in Fortran's order; save np.ascontiguousarray of it"
      )
    # Looks at the labels and at the images' shape, at no pixel.
    data = checked.dataset(image, label, _classes(root), where=str(self._path))
    self._label, self._offset = data.label, image.offset
    self.where = str(self._path)
    self.shape, self.classes = data.image.shape[1:], data.classes
    self.identity = index.identity((self._path, labels))

  def __len__(self) -> int:
    return len(self._label)

  def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `types.Examples.read`."""
    image = np.empty((len(rows), *self.shape), np.uint8)
    # Rows that follow each other in the file are read at once.
    ends = [*(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
    start = 0
    try:
      # A file of its own: threads must not move each other's position.
      with self._path.open("rb", buffering=0) as file:
        for end in ends:
          file.seek(self._offset + int(rows[start]) * image[0].nbytes)
          self._fill(file, memoryview(image[start:end]).cast("B"))
          start = end
    except OSError as error:
      raise UserError(f"cannot read {self._path}: {error.strerror}") from None
    return image, self._label[rows]

  def _fill(self, file: io.FileIO, pixels: memoryview) -> None:
    while pixels:
      count = file.readinto(pixels)
      if not count:
        raise UserError(
          f"{self._path} has become shorter while it is read; save it again"
        )
      pixels = pixels[count:]


def _array(path: pathlib.Path, *, mapped: bool = False) -> np.ndarray:
  try:
    # Pickles run code: never from a data file.
    array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
  except OSError as error:
    reason = error.strerror or error
    raise UserError(f"cannot read {path}: {reason}; put it there") from None
  except Exception as error:  # whatever numpy's parser meets
    reason = str(error).splitlines()[0] if str(error) else "it is empty"
    raise UserError(
      f"{path} is no .npy file of a plain array ({reason}); save it again with "
      "np.save"
    ) from None
  if not isinstance(array, np.ndarray):
    array.close()
    raise UserError(f"{path} holds several arrays; save each with np.save")
  return array


def _classes(root: pathlib.Path) -> tuple[str, ...]:
  path = root / "class_names.npy"
  if not path.exists():
    return checked.numbers(_array(root / "train_labels.npy"))
  names = _array(path)
  if names.ndim != 1 or names.dtype.kind != "U":
    raise UserError(
      f"{path} is {names.dtype} of the shape {names.shape}; save a list of "
      "strings"
    )
  return tuple(names.tolist())
