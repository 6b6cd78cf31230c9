"""Builds TFDS sets as array_record without TensorFlow (`amtml prepare NAME`).

The builders are TFDS's own (Tiny-ImageNet's is ours): features, versions, keys,
recorded checksums. Only what needs TensorFlow is replaced, unpacking and PNG
encoding, so plain `tfds.data_source(NAME, data_dir=FOLDER)` reads the result,
in the order of the official build. SVHN comes without its `extra` split (1.3
GB; the paper does not use it). TFDS writes into a folder of another name and
renames it at the end, so what was interrupted is never taken for finished.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import os
import pathlib
import shutil
import struct
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np

from amtml_jax.data import idx, tfds, tiny_imagenet
from amtml_jax.errors import UserError

# When Fashion-MNIST's publisher packed its files: part of their gzip headers.
STAMPS = {"train": 1504176606, "t10k": 1504176627}
TIMEOUT = 30  # seconds without a byte


def prepare(name: str, *, folder: str, manual_dir: str = "") -> None:
  """Builds a set; one that is already there stays as it is.

  Args:
    name: one of `builders()`, or `svhn`.
    folder: TFDS's `data_dir`; empty is TFDS's default.
    manual_dir: where the archives lie under their own names; then nothing is
      fetched. Empty: they are fetched into `folder`/downloads.

  Raises:
    UserError: for an unknown name; archives that are missing, not the
      recorded ones, or cannot be fetched; a folder that cannot be written.
  """
  name = tfds.ALIASES.get(name, name)
  if name not in builders():
    known = ", ".join([*builders(), *tfds.ALIASES])
    raise UserError(f"cannot prepare {name!r}; known: {known}")
  from tensorflow_datasets import download

  try:
    root = os.path.expanduser(folder) or None
    builder = builders()[name](data_dir=root)
    if not builder.info.splits:
      path = pathlib.Path(builder.data_dir)
      # TFDS would take the bare folder for a set that is ready.
      if path.exists():
        raise UserError(f"{path} is there but holds no finished set; delete it")
      source = pathlib.Path(manual_dir).expanduser()
      if not manual_dir:
        source = path.parents[1] / "downloads"
        fetch(builder, source)
      with tempfile.TemporaryDirectory() as scratch:
        stage(builder, source, pathlib.Path(scratch))
        builder.download_and_prepare(
          download_config=download.DownloadConfig(manual_dir=scratch),
          file_format="array_record",
        )
  except OSError as error:
    raise UserError(
      f"cannot build {name} in {folder or 'the default folder of TFDS'}: "
      f"{_line(error)}"
    ) from None
  # One that somebody built in another format is not of use here.
  tfds.opened(name, folder)


def recorded(builder: Any) -> dict[str, str]:
  """The sha256 of every archive of a set by its name; "": any will do."""
  infos = builder.url_infos
  return {
    infos[url].filename: infos[url].checksum for url in builder.urls().values()
  }


def fetch(builder: Any, target: pathlib.Path) -> None:
  """Fetches the archives that `target` lacks; what lies there is verified.

  Not by TFDS's downloader, which has no timeout and tries for minutes where
  there is no network.
  """
  from tqdm import tqdm

  if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
    raise UserError(builder.MANUAL_DOWNLOAD_INSTRUCTIONS)
  target.mkdir(parents=True, exist_ok=True)
  digests = recorded(builder)
  for url in builder.urls().values():
    name = builder.url_infos[url].filename
    path, part = target / name, target / f"{name}.part"
    if path.is_file():
      continue
    fix = f"try again, or put {', '.join(digests)} into a folder and give it "
    fix += "as --manual_dir"
    try:
      with (
        urllib.request.urlopen(url, timeout=TIMEOUT) as response,
        tqdm.wrapattr(
          response, "read", total=response.length, desc=name
        ) as stream,
        part.open("wb") as file,
      ):
        shutil.copyfileobj(stream, file, 1 << 20)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
      raise UserError(f"cannot fetch {url} ({_line(error)}); {fix}") from None
    found = _digest(part)
    if found != digests[name]:
      part.unlink()
      raise UserError(
        f"{url} gave something else than TFDS recorded (sha256 {found[:12]}…, "
        f"not {digests[name][:12]}…); {fix}"
      )
    part.replace(path)


def stage(builder: Any, source: pathlib.Path, target: pathlib.Path) -> None:
  """Puts the verified archives of `source` into `target`, as links."""
  for name, digest in recorded(builder).items():
    path = source / name
    if not path.is_file():
      raise UserError(f"{builder.name} needs {name}; there is none in {source}")
    found = _digest(path)
    if digest in ("", found):
      (target / name).symlink_to(path.absolute())
      continue
    rebuilt = publisher_gzip(path)
    if hashlib.sha256(rebuilt).hexdigest() != digest:
      raise UserError(
        f"{path} is not the file that TFDS recorded (sha256 {found[:12]}…, not "
        f"{digest[:12]}…); get it again"
      )
    (target / name).write_bytes(rebuilt)


def publisher_gzip(path: pathlib.Path) -> bytes:
  """A `.gz` of Debian's Fashion-MNIST with its publisher's header again.

  Debian packs the files without their name and time; the compressed bytes are
  the publisher's. Other files come out as something that no checksum knows.
  """
  stamp = STAMPS.get(path.name.split("-")[0])
  if stamp is None or path.suffix != ".gz":
    return b""
  header = b"\x1f\x8b\x08\x08" + struct.pack("<I", stamp) + b"\x00\x03"
  return header + path.stem.encode() + b"\x00" + path.read_bytes()[10:]


@functools.cache
def builders() -> dict[str, Any]:
  """TFDS's builder of every set that can be prepared, without TensorFlow."""
  import tensorflow_datasets as official
  from tensorflow_datasets.image_classification import cifar, mnist

  class Tar:
    """CIFAR: a tar of files of labels and planes, names in text files."""

    def urls(self) -> dict[str, str]:
      return {"tar": self._cifar_info.url}

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
      path = dl_manager.download(self.urls())["tar"]
      known = self._cifar_info
      with tarfile.open(path) as tar:
        for key, file in zip(known.label_keys, known.label_files, strict=True):
          text = _member(tar, known.prefix + file).decode()
          names = [line for line in text.split("\n") if line]
          self.info.features[key].names = names
      return {
        "train": self._generate_examples("train_", path, known.train_files),
        "test": self._generate_examples("test_", path, known.test_files),
      }

    def _generate_examples(
      self, prefix: str, path: Any, files: list[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
      keys = self._cifar_info.label_keys
      with tarfile.open(path) as tar:
        data = b"".join(
          _member(tar, self._cifar_info.prefix + file) for file in files
        )
      records = np.frombuffer(data, np.uint8).reshape(-1, len(keys) + 3072)
      for i, record in enumerate(records):
        image = record[len(keys) :].reshape(3, 32, 32).transpose(1, 2, 0)
        labels = dict(zip(keys, record[: len(keys)].tolist(), strict=True))
        yield i, {"id": f"{prefix}{i:05d}", "image": _png(image), **labels}

  class Cifar10(Tar, cifar.Cifar10, skip_registration=True):
    name = "cifar10"
    url_infos = cifar.Cifar10.url_infos

  class Cifar100(Tar, cifar.Cifar100, skip_registration=True):
    name = "cifar100"
    url_infos = cifar.Cifar100.url_infos

  class FashionMnist(mnist.FashionMNIST, skip_registration=True):
    name = "fashion_mnist"
    url_infos = mnist.FashionMNIST.url_infos

    def urls(self) -> dict[str, str]:
      return {
        f"{part}-{what}": urllib.parse.urljoin(
          self.URL, f"{part}-{what}-ubyte.gz"
        )
        for part in STAMPS
        for what in ("images-idx3", "labels-idx1")
      }

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
      paths = dl_manager.download(self.urls())
      return {
        split: self._generate_examples(
          paths[f"{part}-images-idx3"], paths[f"{part}-labels-idx1"]
        )
        for split, part in idx.PREFIX.items()
      }

    def _generate_examples(
      self, images: Any, labels: Any
    ) -> Iterator[tuple[int, dict[str, Any]]]:
      pairs = zip(_idx(images, 3), _idx(labels, 1), strict=True)
      for i, (image, label) in enumerate(pairs):
        yield i, {"image": _png(image), "label": int(label)}

  svhn = official.builder_cls("svhn_cropped")

  class SvhnCropped(svhn, skip_registration=True):
    name = "svhn_cropped"
    url_infos = svhn.url_infos
    # Its texts (README, citation) lie in its own package, not beside this one.
    pkg_dir_path = svhn._get_pkg_dir_path()

    def urls(self) -> dict[str, str]:
      return {
        split: f"http://ufldl.stanford.edu/housenumbers/{split}_32x32.mat"
        for split in ("train", "test")
      }

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
      paths = dl_manager.download(self.urls())
      return {s: self._generate_examples(s, p) for s, p in paths.items()}

    def _generate_examples(
      self, split: str, path: Any
    ) -> Iterator[tuple[int, dict[str, Any]]]:
      from scipy.io import loadmat

      data = loadmat(str(path))
      images = np.moveaxis(data["X"], -1, 0)
      # The digit 0 is stored as 10.
      labels = data["y"].reshape(-1) % 10
      for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = f"{split}_{i:06d}"
        yield i, {"id": name, "image": _png(image), "label": int(label)}

  ours = tiny_imagenet.builder()
  known = (Cifar10, Cifar100, SvhnCropped, ours, FashionMnist)
  return {builder.name: builder for builder in known}


def _member(tar: tarfile.TarFile, name: str) -> bytes:
  return tar.extractfile(name).read()


def _idx(path: Any, dims: int) -> np.ndarray:
  # What TFDS fetched has a name of its own, which may not end in `.gz`.
  return idx.parsed(gzip.decompress(path.read_bytes()), dims, str(path))


def _png(image: np.ndarray) -> bytes:
  from PIL import Image

  buffer = io.BytesIO()
  Image.fromarray(np.ascontiguousarray(image)).save(buffer, format="PNG")
  return buffer.getvalue()


def _digest(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _line(error: Exception) -> str:
  return str(error).splitlines()[0] if str(error) else type(error).__name__
