"""Tiny-ImageNet as a TFDS set of ours, from its one zip (`prepare.py` uses it).

The archive is `tiny-imagenet-200.zip` of http://cs231n.stanford.edu, which
several loaders record as 248,100,043 bytes of the sha256
6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821. Its publisher
gives no checksum, so none is demanded: the layout must be right, the zip's own
checksums hold, and every image open.

`train` is train. The labelled validation split is the set's `test`; the test
images have no labels and are left out. Labels count the lines of wnids.txt,
which is not sorted; classes are called by their WordNet ids. Images are kept as
PNG, decoded once here, the grey ones in three equal channels.
"""

from __future__ import annotations

import contextlib
import io
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from amtml_jax.errors import UserError

ARCHIVE = "tiny-imagenet-200.zip"
URL = f"http://cs231n.stanford.edu/{ARCHIVE}"
ROOT = "tiny-imagenet-200/"
SIZE = (64, 64)
END = ".JPEG"


class Archive:
  """The zip, opened: what its texts say of its images.

  Attributes:
    classes: the WordNet ids in the order of their labels.
    images: of `train` and `test`, every image's member and label.
  """

  def __init__(self, path: pathlib.Path):
    self.path = path
    with self._whole():
      self._zip = zipfile.ZipFile(path)
    self.classes = tuple(self._text("wnids.txt").split())
    if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
      raise self._wrong("wnids.txt does not name two or more classes once each")
    self._labels = {wnid: i for i, wnid in enumerate(self.classes)}
    self.images = {"train": self._train(), "test": self._validation()}

  def png(self, member: str) -> bytes:
    """An image as a PNG of three channels."""
    from PIL import Image, UnidentifiedImageError

    bomb = Image.DecompressionBombError
    with self._whole():
      data = self._zip.read(member)
    try:
      with Image.open(io.BytesIO(data)) as file:
        # Before it is decoded: a header may promise any size.
        if file.size != SIZE:
          raise self._wrong(f"{member} has {file.size} pixels, not {SIZE}")
        picture = file.convert("RGB")
    except UnidentifiedImageError:
      raise self._wrong(f"{member} is no image") from None
    except (OSError, SyntaxError, ValueError, bomb) as error:
      raise self._wrong(f"{member} does not open ({error})") from None
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()

  def _train(self) -> list[tuple[str, int]]:
    found = []
    for member in self._members("train/"):
      wnid = member.removeprefix(f"{ROOT}train/").split("/")[0]
      found.append((member, self._label(wnid, member)))
    bare = set(range(len(self.classes))) - {label for _, label in found}
    if bare:
      raise self._wrong(f"{self.classes[min(bare)]} has no training image")
    return found

  def _validation(self) -> list[tuple[str, int]]:
    """Every image of `val` has one line of its annotations, and back."""
    text, folder = "val/val_annotations.txt", "val/images/"
    labels: dict[str, int] = {}
    for number, line in enumerate(self._text(text).splitlines(), 1):
      name, _, rest = line.partition("\t")
      wnid = rest.split("\t")[0]  # what follows is the object's box
      member = f"{ROOT}{folder}{name}"
      if member in labels:
        raise self._wrong(f"{text} names {name} twice")
      labels[member] = self._label(wnid, f"line {number} of {text}")
    members = self._members(folder)
    if not members:
      raise self._wrong(f"{folder} holds no image")
    for member in members:
      if member not in labels:
        raise self._wrong(f"{text} has no line for {member}")
    for member in sorted(labels.keys() - set(members)):
      raise self._wrong(f"{text} has a line for {member}, which is not there")
    return [(member, labels[member]) for member in members]

  def _members(self, folder: str) -> list[str]:
    # Some packers write a name twice; the last one counts, as in `unzip`.
    return [
      name
      for name in dict.fromkeys(self._zip.namelist())
      if name.startswith(ROOT + folder) and name.endswith(END)
    ]

  def _label(self, wnid: str, where: str) -> int:
    if wnid not in self._labels:
      raise self._wrong(f"{where} is of {wnid!r}, which wnids.txt lacks")
    return self._labels[wnid]

  def _text(self, name: str) -> str:
    if ROOT + name not in self._zip.namelist():
      raise self._wrong(f"there is no {ROOT}{name} in it")
    with self._whole():
      return self._zip.read(ROOT + name).decode()

  @contextlib.contextmanager
  def _whole(self) -> Iterator[None]:
    """Tells in a sentence that the zip is damaged, or no zip at all."""
    try:
      yield
    except (
      zipfile.BadZipFile,
      zlib.error,
      struct.error,
      EOFError,
      RuntimeError,  # encrypted, or packed in a way that Python does not know
      ValueError,  # an offset that points nowhere; text that is not UTF-8
    ) as error:
      reason = str(error) or type(error).__name__
      raise UserError(
        f"{self.path} is damaged or no zip ({reason}); get it again from {URL}"
      ) from None

  def _wrong(self, what: str) -> UserError:
    return UserError(
      f"{self.path} is not Tiny-ImageNet: {what}; get it again from {URL}"
    )


def builder() -> Any:
  """The TFDS builder, unregistered: a prepared folder opens without it."""
  import tensorflow_datasets as tfds

  # No checksum: see above.
  none = tfds.download.checksums.UrlInfo(
    size=tfds.core.utils.Size(0), checksum="", filename=ARCHIVE
  )

  class TinyImagenet(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Tiny-ImageNet's labelled images."""

    name = "tiny_imagenet"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
      f"tiny_imagenet is not fetched; put {ARCHIVE} ({URL}) into a folder and "
      "give it as --manual_dir"
    )
    url_infos = MappingProxyType({URL: none})
    # Where TFDS looks for texts about the set; there are none.
    pkg_dir_path = pathlib.Path(__file__).parent

    def urls(self) -> dict[str, str]:
      return {"zip": URL}

    def _info(self) -> Any:
      return tfds.core.DatasetInfo(
        builder=self,
        description="64x64 images of 200 classes of ImageNet.",
        homepage="http://cs231n.stanford.edu",
        features=tfds.features.FeaturesDict(
          {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(
              shape=(*SIZE, 3), encoding_format="png"
            ),
            # Its names come with the archive.
            "label": tfds.features.ClassLabel(),
          }
        ),
        supervised_keys=("image", "label"),
      )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
      # Resolved: a message names the user's file, not the link to it.
      path = pathlib.Path(dl_manager.manual_dir) / ARCHIVE
      archive = Archive(path.resolve())
      self.info.features["label"].names = list(archive.classes)
      return {
        split: self._generate_examples(archive, split)
        for split in archive.images
      }

    def _generate_examples(
      self, archive: Archive, split: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
      for member, label in archive.images[split]:
        key = pathlib.PurePath(member).stem
        yield key, {"id": key, "image": archive.png(member), "label": label}

  return TinyImagenet
