"""Any image-classification set that TFDS has prepared as array_record.

It is read without TensorFlow and decoded by Pillow. The test split is `test`,
or `validation` where a set has no `test`. With `image_size` > 0 every image
that is not of that size already is cropped to its largest central square and
resized to `image_size` × `image_size`, bilinear with antialiasing.
"""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np

from amtml_jax.data import checked, index, streamed
from amtml_jax.errors import UserError
from amtml_jax.types import Dataset

ALIASES = {"svhn": "svhn_cropped"}
# Prepared by a builder of ours: TFDS finds the folder, but not what makes it.
OURS = ("tiny_imagenet",)
MODES = {1: "L", 3: "RGB"}


def load(
  split: str, *, folder: str = "", name: str = "", image_size: int = 0
) -> Dataset:
  """The whole split in one array, in TFDS's own order.

  Args:
    split: "train" or "test".
    folder: TFDS's `data_dir`; empty is TFDS's default.
    name: the set's name, with `/config` and `:version` if wanted.
    image_size: 0 keeps the sizes, which then must be equal.
  """
  found = examples(split, folder=folder, name=name, image_size=image_size)
  return streamed.collected(found)


def examples(
  split: str, *, folder: str = "", name: str = "", image_size: int = 0
) -> Prepared:
  """The split where it lies, with the arguments of `load`."""
  checked.split(split)
  builder = opened(name, folder)
  known = builder.info.splits
  chosen = split
  if split == "test" and "test" not in known:
    chosen = "validation"
  if chosen not in known:
    raise UserError(
      f"{builder.name} has no split for {split!r}, only {', '.join(known)}; "
      "choose another set"
    )
  return Prepared(builder, chosen, image_size)


class Prepared:
  """A split's `types.Examples`, decoded when they are read."""

  def __init__(self, builder: Any, split: str, image_size: int):
    from PIL import __version__ as pillow
    from tensorflow_datasets.core import decode

    self._image, self._label = _keys(builder)
    # Pillow decodes here: TFDS's own way fails on CMYK and warns about OpenCV.
    self._source = builder.as_data_source(
      split=split, decoders={self._image: decode.SkipDecoding()}
    )
    self._mode = MODES[builder.info.features[self._image].shape[-1]]
    self._size = image_size
    self.where = f"{builder.name} ({split})"
    if not len(self):
      raise UserError(f"{self.where} is empty; choose another set")
    self.classes = tuple(builder.info.features[self._label].names)
    (first,) = _read(self._source, [0], self.where)
    self.shape = self._decoded(first).shape
    self.identity = index.identity(
      builder.info.splits[split].filepaths,
      builder.info.full_name,
      image_size,
      pillow,
    )

  def __len__(self) -> int:
    return len(self._source)

  def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `types.Examples.read`."""
    image = np.empty((len(rows), *self.shape), np.uint8)
    label = np.empty(len(rows), np.int64)
    found = _read(self._source, rows.tolist(), self.where)
    for i, example in enumerate(found):
      picture = self._decoded(example)
      if picture.shape != self.shape:
        raise UserError(
          f"{self.where} has images of unequal size ({self.shape[:2]} and "
          f"{picture.shape[:2]}); set --config.data.image_size"
        )
      image[i], label[i] = picture, example[self._label]
    return image, label

  def _decoded(self, example: dict[str, Any]) -> np.ndarray:
    return _decoded(example[self._image], self._mode, self._size, self.where)


def opened(name: str, folder: str) -> Any:
  """The builder of a prepared set."""
  if not name:
    raise UserError("tfds needs a set's name; set --config.data.name")
  import tensorflow_datasets as tfds

  name = ALIASES.get(name, name)
  try:
    root = os.path.expanduser(folder) or None
    builder = tfds.builder(name, data_dir=root)
  except tfds.core.registered.DatasetNotFoundError:
    ours = name.partition(":")[0]
    if ours in OURS:
      raise UserError(
        f"{name} is not prepared in {folder or 'the default folder of TFDS'}; "
        f"run: amtml prepare {ours} --manual_dir=ARCHIVES (or set "
        "--config.data.folder to where it is)"
      ) from None
    raise UserError(f"TFDS knows no set {name!r}; see its catalogue") from None
  except (ValueError, AssertionError) as error:  # a config, a version
    reason = str(error).splitlines()[0]
    raise UserError(f"TFDS cannot open {name!r}: {reason}") from None
  if not builder.info.splits:
    raise UserError(
      f"{name} is not prepared in {builder.data_dir}; run: amtml prepare "
      f"{builder.name} (or set --config.data.folder to where it is)"
    )
  formats = builder.info.available_file_formats()
  if not formats & set(tfds.core.FileFormat.with_random_access()):
    raise UserError(
      f"{builder.data_dir} is in {builder.info.file_format.value}, which only "
      "TensorFlow reads; move it away and prepare the set as array_record "
      f"(amtml prepare {builder.name})"
    )
  return builder


def _keys(builder: Any) -> tuple[str, str]:
  """The names of the image's and the label's feature."""
  from tensorflow_datasets import features as kinds

  features = builder.info.features
  found = dict(features) if isinstance(features, kinds.FeaturesDict) else {}
  # What the set itself declares as its task goes before the usual names.
  keys = builder.info.supervised_keys or ()
  if len(keys) != 2 or not all(isinstance(key, str) for key in keys):
    keys = ("image", "label")
  image, label = (found.get(key) for key in keys)
  if (
    not isinstance(image, kinds.Image)
    or not isinstance(label, kinds.ClassLabel)
    or not label.num_classes
  ):
    raise UserError(
      f"{builder.name} is no image classification, it has no image with a "
      f"class label (its features: {', '.join(found)}); choose another set"
    )
  if image.np_dtype != np.uint8 or image.shape[-1] not in MODES:
    raise UserError(
      f"{builder.name} has {np.dtype(image.np_dtype)} images of "
      f"{image.shape[-1]} channels; only uint8 of 1 or 3 can be read"
    )
  return keys


def _read(source: Any, rows: list[int], where: str) -> list[dict[str, Any]]:
  try:
    return source.__getitems__(rows)
  except (IndexError, ValueError, RuntimeError, OSError) as error:
    reason = str(error).splitlines()[0] if str(error) else "no reason given"
    raise UserError(
      f"{where} cannot be read ({reason}); delete its folder and prepare it "
      "again"
    ) from None


def _decoded(data: bytes, mode: str, size: int, where: str) -> np.ndarray:
  """`(H, W, channels)` uint8 of a PNG's or JPEG's bytes."""
  from PIL import Image, UnidentifiedImageError

  try:
    with Image.open(io.BytesIO(data)) as file:
      picture = file.convert(mode)
  except (UnidentifiedImageError, OSError, SyntaxError) as error:
    raise UserError(
      f"{where} has an image that cannot be decoded ({error}); delete its "
      "folder and prepare it again"
    ) from None
  if size and picture.size != (size, size):
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    picture = picture.crop((left, top, left + side, top + side))
    picture = picture.resize((size, size), Image.Resampling.BILINEAR)
  array = np.asarray(picture)
  return array[..., None] if mode == "L" else array
