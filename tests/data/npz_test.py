"""One .npz file, good and bad."""

import pathlib

import numpy as np
import pytest

from amtml_jax.data import npz
from amtml_jax.errors import UserError

GOOD = {
  "train_images": np.arange(48, dtype=np.uint8).reshape(4, 2, 2, 3),
  "train_labels": np.array([0, 2, 1, 0]),
  "test_images": np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3),
  "test_labels": np.array([1, 0], np.uint8),
}


@pytest.fixture
def save(tmp_path):
  def write(**changed):
    arrays = {k: v for k, v in {**GOOD, **changed}.items() if v is not None}
    path = tmp_path / "set.npz"
    np.savez_compressed(path, **arrays)
    return str(path)

  return write


def test_both_splits(save):
  path = save()
  train, test = npz.load("train", folder=path), npz.load("test", folder=path)
  np.testing.assert_array_equal(train.image, GOOD["train_images"])
  assert train.label.tolist() == [0, 2, 1, 0]
  assert test.label.tolist() == [1, 0]
  # The class that the test split lacks is a class all the same.
  assert train.classes == test.classes == ("0", "1", "2")


def test_class_names(save):
  path = save(class_names=np.array(["a", "b", "c"]))
  assert npz.load("test", folder=path).classes == ("a", "b", "c")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_become_the_nearest_of_255_steps(save, dtype):
  steps = np.arange(256).reshape(4, 8, 8)
  path = save(train_images=(steps / 255).astype(dtype))
  found = npz.load("train", folder=path).image[..., 0]
  np.testing.assert_array_equal(found, steps)


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"train_images": None}, "no array 'train_images', only train_labels, te"),
    ({"train_labels": None}, "no array 'train_labels'"),
    ({"train_images": GOOD["train_images"] * 1.0}, r"from 0.0 to 47.0; scale"),
    ({"train_images": np.full((4, 2, 2), np.nan)}, "run from nan to nan"),
    ({"train_images": np.full((4, 2, 2), -0.1)}, "from -0.1 to -0.1"),
    ({"train_images": np.zeros((4, 2, 2), np.int32)}, "images are int32"),
    ({"train_images": np.zeros((4, 2, 2), object)}, "no .npz file of plain"),
    ({"train_images": np.zeros((5, 2, 2), np.uint8)}, "5 images but 4 labels"),
    ({"train_images": np.zeros((0, 2, 2))}, "images are float64"),
    ({"train_labels": np.array([0.0, 1, 1, 0])}, "labels are float64"),
    ({"train_labels": np.array([0, -1, 1, 0])}, "labels run from -1 to 1"),
    ({"train_labels": np.zeros(4, int)}, "give two or more"),
    ({"class_names": np.array(["a", "b"])}, "from 0 to 2, but there are 2"),
    ({"class_names": np.array([1, 2, 3])}, "class_names is int64 of the shape"),
  ],
)
def test_bad_arrays(save, changed, message):
  with pytest.raises(UserError, match=f"set.npz.*{message}"):
    npz.load("train", folder=save(**changed))


def test_bad_files(save, tmp_path):
  with pytest.raises(
    UserError, match=r"npz needs a file; set --config.data.fo"
  ):
    npz.load("train")
  with pytest.raises(UserError, match=r"cannot read .*/none.npz: No such file"):
    npz.load("train", folder=str(tmp_path / "none.npz"))
  with pytest.raises(UserError, match="Is a directory"):
    npz.load("train", folder=str(tmp_path))
  np.save(tmp_path / "one.npy", np.zeros(3))
  with pytest.raises(UserError, match=r"one.npy is one array; save it with np"):
    npz.load("train", folder=str(tmp_path / "one.npy"))
  path = tmp_path / "bad.npz"
  data = pathlib.Path(save()).read_bytes()
  middle = data.index(b"train_images.npy") + 60
  for content in (
    b"",
    b"some text",
    data[: len(data) // 2],  # the directory at the end is gone
    data[:middle]
    + bytes(255 - v for v in data[middle : middle + 20])
    + data[middle + 20 :],  # a flipped piece of one array
  ):
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad.npz is no .npz file of plain"):
      npz.load("train", folder=str(path))
