"""IDX files written by the test, and Debian's Fashion-MNIST where it is."""

import gzip
import pathlib
import struct

import numpy as np
import pytest

from amtml_jax.data import digits, idx
from amtml_jax.errors import UserError


def packed(array):
  header = bytes([0, 0, 8, array.ndim])
  return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path):
  """Training files gzipped, test files plain."""
  for split, prefix in (("train", "train"), ("test", "t10k")):
    data = digits.load(split)
    image = packed(data.image[:50, ..., 0])
    label = packed(data.label[:50].astype(np.uint8))
    for stem, content in (("images-idx3", image), ("labels-idx1", label)):
      path = tmp_path / f"{prefix}-{stem}-ubyte"
      if split == "train":
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
      else:
        path.write_bytes(content)
  return tmp_path


@pytest.mark.parametrize("split", ["train", "test"])
def test_gzipped_and_plain_files(folder, split):
  data = idx.load(split, folder=str(folder))
  expected = digits.load(split)
  np.testing.assert_array_equal(data.image, expected.image[:50])
  np.testing.assert_array_equal(data.label, expected.label[:50])
  assert data.classes == tuple("0123456789")


def test_fashion_mnist_by_name(folder):
  data = idx.load("train", folder=str(folder), name="fashion_mnist")
  assert data.classes[0] == "T-shirt/top"
  assert data.classes[9] == "Ankle boot"


def test_classes_are_those_of_training(folder):
  label = np.arange(50, dtype=np.uint8) % 4
  (folder / "train-labels-idx1-ubyte").write_bytes(packed(label))
  assert idx.load("train", folder=str(folder)).classes == tuple("0123")
  with pytest.raises(UserError, match=r"t10k-images.*0 to 9.*4 classes"):
    idx.load("test", folder=str(folder))


def test_missing_folder_and_file(tmp_path, monkeypatch):
  with pytest.raises(UserError, match=r"no folder .*/x; set --config.data.fol"):
    idx.load("train", folder=str(tmp_path / "x"))
  monkeypatch.setattr(idx, "FOLDER", str(tmp_path / "x"))
  with pytest.raises(UserError, match="apt install dataset-fashion-mnist"):
    idx.load("train")
  with pytest.raises(UserError, match="has no train-images-idx3-ubyte or "):
    idx.load("train", folder=str(tmp_path))


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (lambda b: b[:-1], "has 3215 bytes where its header says 3216"),
    (lambda b: b + b"x", "has 3217 bytes"),
    (lambda b: b[:10], "ends inside its header"),
    (lambda b: b"", "starts with nothing"),
    (lambda b: b"\0\0\x0d\3" + b[4:], "starts with 00000d03"),
    (lambda b: packed(np.zeros(3, np.uint8)), "with 3 dimensions"),
    # 2^32 - 1 cubed would wrap around in 64 bits.
    (lambda b: b[:4] + b"\xff" * 12 + b[16:], "bytes where its header says"),
    (lambda b: packed(np.zeros((49, 8, 8), np.uint8)), "49 images but 50 lab"),
    (lambda b: packed(np.zeros((0, 8, 8), np.uint8)), "0 images but 50"),
  ],
)
def test_damaged_images(folder, damage, message):
  path = folder / "t10k-images-idx3-ubyte"
  path.write_bytes(damage(path.read_bytes()))
  with pytest.raises(UserError, match=f"t10k-images.*{message}"):
    idx.load("test", folder=str(folder))


@pytest.mark.parametrize(
  "damage",
  [
    lambda b: b[:-20],  # EOFError
    lambda b: b"plain" + b,  # BadGzipFile
    lambda b: b[:10] + bytes(255 - v for v in b[10:60]) + b[60:],  # zlib.error
    lambda b: b[:-8] + bytes(4) + b[-4:],  # the checksum at the end
  ],
)
def test_damaged_gzip(folder, damage):
  path = folder / "train-images-idx3-ubyte.gz"
  path.write_bytes(damage(path.read_bytes()))
  with pytest.raises(UserError, match=r"idx3-ubyte.gz is damaged \(.*get the"):
    idx.load("train", folder=str(folder))


def test_unreadable_file(folder, monkeypatch):
  def refuse(self):
    raise PermissionError(13, "Permission denied")

  monkeypatch.setattr(pathlib.Path, "read_bytes", refuse)
  with pytest.raises(UserError, match=r"cannot read .*: Permission denied"):
    idx.load("train", folder=str(folder))


@pytest.mark.skipif(
  not pathlib.Path(idx.FOLDER).is_dir(),
  reason="Debian's dataset-fashion-mnist is not installed",
)
def test_debians_fashion_mnist():
  data = idx.load("test")
  assert data.image.shape == (10_000, 28, 28, 1)
  assert data.classes == idx.FASHION_MNIST
  # The first ten test labels as the publisher's README and Keras show them.
  assert data.label[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
  assert np.bincount(data.label).tolist() == [1000] * 10
  train = idx.load("train")
  assert train.image.shape == (60_000, 28, 28, 1)
  assert train.label[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
  # The published mean and standard deviation of its training images.
  assert train.image.mean() / 255 == pytest.approx(0.2860, abs=5e-5)
  assert train.image.std() / 255 == pytest.approx(0.3530, abs=5e-5)
