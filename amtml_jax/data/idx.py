"""A folder of IDX files, as MNIST and Fashion-MNIST are given out.

`{train,t10k}-{images-idx3,labels-idx1}-ubyte`, plain or with `.gz`. The
default is Debian's package `dataset-fashion-mnist`.
"""

from __future__ import annotations

import gzip
import math
import os
import pathlib
import struct
import zlib

import numpy as np

from amtml_jax.data import checked
from amtml_jax.errors import UserError
from amtml_jax.types import Dataset

FOLDER = "/usr/share/datasets/fashion-mnist"
PREFIX = {"train": "train", "test": "t10k"}
FASHION_MNIST = (
  "T-shirt/top",
  "Trouser",
  "Pullover",
  "Dress",
  "Coat",
  "Sandal",
  "Shirt",
  "Sneaker",
  "Bag",
  "Ankle boot",
)


def load(
  split: str, *, folder: str = "", name: str = "", image_size: int = 0
) -> Dataset:
  """Images `(N, H, W, 1)` of a folder.

  Classes have Fashion-MNIST's names for `name="fashion_mnist"` or in Debian's
  folder, else the numbers that the training labels use.
  """
  del image_size
  prefix = PREFIX[checked.split(split)]
  root = pathlib.Path(folder or FOLDER).expanduser()
  if not os.path.isdir(root):  # pathlib's raises for a name too long
    fix = (
      "set --config.data.folder"
      if folder
      else "apt install dataset-fashion-mnist, or set --config.data.folder"
    )
    raise UserError(f"there is no folder {root}; {fix}")
  path = find(root, f"{prefix}-images-idx3-ubyte")
  image = read(path, 3)
  label = read(find(root, f"{prefix}-labels-idx1-ubyte"), 1)
  if name == "fashion_mnist" or root == pathlib.Path(FOLDER):
    classes = FASHION_MNIST
  else:
    seen = label
    if split == "test":
      seen = read(find(root, "train-labels-idx1-ubyte"), 1)
    classes = checked.numbers(seen)
  return checked.dataset(image, label, classes, where=str(path))


def find(root: pathlib.Path, stem: str) -> pathlib.Path:
  """The plain file, or the one with `.gz`."""
  for path in (root / stem, root / f"{stem}.gz"):
    if path.is_file():
      return path
  raise UserError(f"{root} has no {stem} or {stem}.gz; put it there")


def read(path: pathlib.Path, dims: int) -> np.ndarray:
  """The array of one IDX file of unsigned bytes with `dims` dimensions."""
  try:
    data = path.read_bytes()
    if path.suffix == ".gz":
      data = gzip.decompress(data)
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise UserError(
      f"{path} is damaged ({error}); get the file again"
    ) from None
  except OSError as error:
    raise UserError(f"cannot read {path}: {error.strerror}") from None
  return parsed(data, dims, str(path))


def parsed(data: bytes, dims: int, where: str) -> np.ndarray:
  """The array of an unpacked IDX file; `where` is its name in messages."""
  start = 4 + 4 * dims
  # Two zero bytes, 8 for unsigned bytes, the number of dimensions.
  if data[:4] != bytes([0, 0, 8, dims]):
    raise UserError(
      f"{where} is no IDX file of unsigned bytes with {dims} dimensions (it "
      f"starts with {data[:4].hex() or 'nothing'}); get the file again"
    )
  if len(data) < start:
    raise UserError(f"{where} ends inside its header; get the file again")
  shape = struct.unpack_from(f">{dims}I", data, 4)
  # Python's integers: a damaged header must not overflow into a match.
  expected = start + math.prod(shape)
  if len(data) != expected:
    raise UserError(
      f"{where} has {len(data)} bytes where its header says {expected}; get "
      "the file again"
    )
  return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
