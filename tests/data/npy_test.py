"""A folder of .npy files, good and bad."""

import pathlib

import numpy as np
import pytest

from amtml_jax.data import npy
from amtml_jax.errors import UserError

IMAGE = np.random.default_rng(0).integers(0, 256, (9, 4, 3, 2), np.uint8)
GOOD = {
  "train_images": IMAGE,
  "train_labels": np.arange(9) % 3,
  "test_images": IMAGE[:2],
  "test_labels": np.array([1, 0], np.uint8),
}


# The last two once ended in a TokenError and an OverflowError.
HEADERS = (
  (b"|u1", b"|x1"),
  (b"'shape'", b"'shap\xe5'"),
  (b"{'descr'", b"(('descr'"),
  (b"3, 2), }" + b" " * 30, b"3, 2" + b"0" * 30 + b"), }"),
)


@pytest.fixture
def save(tmp_path):
  def write(**changed):
    for name, array in {**GOOD, **changed}.items():
      if array is not None:
        np.save(tmp_path / f"{name}.npy", array)
    return str(tmp_path)

  return write


def test_both_splits(save):
  folder = save()
  train, test = (npy.load(s, folder=folder) for s in ("train", "test"))
  np.testing.assert_array_equal(train.image, IMAGE)
  assert train.label.tolist() == [0, 1, 2] * 3
  assert test.label.tolist() == [1, 0]
  # The class that the test split lacks is a class all the same.
  assert train.classes == test.classes == ("0", "1", "2")


def test_class_names_and_gray_images(save):
  names = np.array(["a", "b", "c"])
  folder = save(train_images=IMAGE[..., 0], class_names=names)
  data = npy.load("train", folder=folder)
  np.testing.assert_array_equal(data.image, IMAGE[..., :1])
  assert data.classes == ("a", "b", "c")


@pytest.mark.parametrize(
  "rows", [[0], [8], [3, 4, 5], [5, 4, 3], [0, 0, 8, 8], [7, 8, 0, 1, 3, 2]]
)
def test_any_rows_in_any_order(save, rows):
  found = npy.examples("train", folder=save())
  image, label = found.read(np.array(rows))
  np.testing.assert_array_equal(image, IMAGE[rows])
  assert label.tolist() == [r % 3 for r in rows]


def test_no_file_stays_mapped_or_open(save):
  found = npy.examples("train", folder=save())
  found.read(np.arange(9))
  maps = pathlib.Path("/proc/self/maps")
  if not maps.exists():
    pytest.skip("only Linux says what is mapped")
  mapped = np.load(found.where, mmap_mode="r")
  assert found.where in maps.read_text()
  del mapped
  assert found.where not in maps.read_text()


def test_the_identity_knows_the_files(save):
  first = npy.examples("train", folder=save()).identity
  assert npy.examples("train", folder=save()).identity != first  # newer
  assert "train_images.npy" in first
  assert "train_labels.npy" in first


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"train_images": IMAGE / 255}, "images are float64; save them as uint8"),
    ({"train_images": IMAGE[0, 0]}, r"images have the shape \(3, 2\)"),
    ({"train_images": IMAGE[:8]}, "8 images but 9 labels"),
    ({"train_images": IMAGE[:0]}, "0 images but 9 labels"),
    ({"train_images": IMAGE[:, :0]}, "nothing to learn from"),
    ({"train_images": np.asfortranarray(IMAGE)}, "in Fortran's order"),
    ({"train_images": np.array([None])}, "is no .npy file of a plain array"),
    ({"train_labels": np.arange(9) / 1}, "labels are float64"),
    ({"train_labels": np.arange(9) - 1}, "labels run from -1 to 7"),
    ({"class_names": np.array(["a", "b"])}, "from 0 to 2, but there are 2"),
    ({"class_names": np.array([1, 2, 3])}, "class_names.npy is int64 of the"),
  ],
)
def test_bad_arrays(save, changed, message):
  folder = save(**changed)
  for read in (npy.load, npy.examples):
    with pytest.raises(UserError, match=message):
      read("train", folder=folder)


def test_bad_files(save, tmp_path):
  with pytest.raises(UserError, match=r"npy needs a folder; set --config.data"):
    npy.load("train")
  with pytest.raises(UserError, match=r"there is no folder .*/none; set --c"):
    npy.load("train", folder=str(tmp_path / "none"))
  with pytest.raises(UserError, match=r"train_images.npy: No such file.*; put"):
    npy.load("train", folder=str(tmp_path))
  path = pathlib.Path(save()) / "train_images.npy"
  whole = path.read_bytes()
  for content in (
    *(b"", b"some text", whole[:40], whole[:-1]),
    # Python's own parser reads the header, and says more than ValueError.
    *(whole.replace(old, new, 1) for old, new in HEADERS),
  ):
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"images.npy is no .npy file of a pla"):
      npy.load("train", folder=str(tmp_path))
  with path.open("wb") as file:
    np.savez(file, a=IMAGE)
  with pytest.raises(UserError, match=r"images.npy holds several arrays"):
    npy.load("train", folder=str(tmp_path))


def test_a_file_that_is_cut_while_it_is_read(save):
  found = npy.examples("train", folder=save())
  path = pathlib.Path(found.where)
  path.write_bytes(path.read_bytes()[:-1])
  found.read(np.array([7]))
  with pytest.raises(UserError, match="has become shorter while it is read"):
    found.read(np.array([7, 8]))
  path.unlink()
  with pytest.raises(UserError, match=r"cannot read .*: No such file"):
    found.read(np.array([0]))
