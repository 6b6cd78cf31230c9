"""One `.npz` file: {train,test}_{images,labels} and, if wanted, class_names.

Images are `(N, H, W)` or `(N, H, W, channels)`, uint8, or floats in [0, 1],
which become `rint(value · 255)`. Labels are integers from 0.
"""

from __future__ import annotations

import pathlib

import numpy as np

from amtml_jax.data import checked
from amtml_jax.errors import UserError
from amtml_jax.types import Dataset


def load(
  split: str, *, folder: str = "", name: str = "", image_size: int = 0
) -> Dataset:
  """One split of the file at `folder`.

  Without `class_names` the classes are the numbers that the training labels
  use.
  """
  del name, image_size
  checked.split(split)
  if not folder:
    raise UserError("npz needs a file; set --config.data.folder to its path")
  path = pathlib.Path(folder).expanduser()
  try:
    # Pickles run code: never from a data file.
    with path.open("rb") as raw:
      file = np.load(raw, allow_pickle=False)
      if not isinstance(file, np.lib.npyio.NpzFile):
        raise UserError(f"{path} is one array; save it with np.savez")
      label = _array(file, f"{split}_labels", path)
      image = _scaled(_array(file, f"{split}_images", path), path)
      classes = _classes(file, path)
  except OSError as error:
    reason = error.strerror or error
    raise UserError(
      f"cannot read {path}: {reason}; set --config.data.folder to an .npz file"
    ) from None
  except UserError:
    raise
  except Exception as error:  # whatever zip's and numpy's parsers meet
    raise UserError(
      f"{path} is no .npz file of plain arrays ({_line(error)}); save it again "
      "with np.savez"
    ) from None
  return checked.dataset(image, label, classes, where=f"{path} ({split})")


def _array(
  file: np.lib.npyio.NpzFile, key: str, path: pathlib.Path
) -> np.ndarray:
  if key not in file.files:
    known = ", ".join(file.files) or "nothing"
    raise UserError(f"{path} has no array {key!r}, only {known}; add it")
  return file[key]


def _classes(file: np.lib.npyio.NpzFile, path: pathlib.Path) -> tuple[str, ...]:
  if "class_names" not in file.files:
    return checked.numbers(_array(file, "train_labels", path))
  names = file["class_names"]
  if names.ndim != 1 or names.dtype.kind != "U":
    raise UserError(
      f"{path}: class_names is {names.dtype} of the shape {names.shape}; save "
      "a list of strings"
    )
  return tuple(names.tolist())


def _scaled(image: np.ndarray, path: pathlib.Path) -> np.ndarray:
  if image.dtype.kind != "f" or not image.size:
    return image
  low, high = image.min(), image.max()  # NaN comes through, and fails below
  if not (low >= 0 and high <= 1):
    raise UserError(
      f"{path}: float images run from {low} to {high}; scale them to [0, 1] or "
      "save them as uint8"
    )
  return np.rint(image * 255).astype(np.uint8)


def _line(error: Exception) -> str:
  return str(error).strip().splitlines()[0] if str(error) else "it is empty"
