"""What no source may let through, whatever it read."""

import numpy as np
import pytest

from amtml_jax.data import checked
from amtml_jax.errors import UserError

IMAGE = np.zeros((3, 2, 2), np.uint8)
LABEL = np.array([0, 1, 1])
NAMES = ("cat", "dog")


def test_gray_images_get_a_channel_and_labels_become_int32():
  data = checked.dataset(IMAGE, LABEL.astype(np.uint8), NAMES, where="x")
  assert data.image.shape == (3, 2, 2, 1)
  assert data.image.dtype == np.uint8
  assert data.label.dtype == np.int32
  assert data.label.tolist() == [0, 1, 1]
  assert data.classes == ("cat", "dog")


@pytest.mark.parametrize(
  ("image", "label", "names", "message"),
  [
    (IMAGE.astype(np.int64), LABEL, NAMES, "images are int64; save them as u"),
    (IMAGE[0], LABEL, NAMES, r"images have the shape \(2, 2\)"),
    (IMAGE, LABEL[:, None], NAMES, r"labels are int64 of the shape \(3, 1\)"),
    (IMAGE, LABEL / 2, NAMES, "labels are float64"),
    (IMAGE, LABEL[:2], NAMES, "3 images but 2 labels"),
    (IMAGE[:0], LABEL[:0], NAMES, "nothing to learn from"),
    (IMAGE[:, :0], LABEL, NAMES, "nothing to learn from"),
    (IMAGE, LABEL, ("cat", "cat"), "2 class names, 1 different"),
    (IMAGE, LABEL * 0, ("cat",), "give two or more"),
    (IMAGE, LABEL + 1, NAMES, "labels run from 1 to 2, but there are 2 class"),
    (IMAGE, LABEL - 1, NAMES, "labels run from -1 to 0"),
  ],
)
def test_bad_arrays_are_the_users_mistake(image, label, names, message):
  with pytest.raises(UserError, match=f"^here: .*{message}"):
    checked.dataset(image, label, names, where="here")


def test_unknown_split():
  with pytest.raises(UserError, match="no split 'valid'; known: train, test"):
    checked.split("valid")


def test_a_stray_label_makes_no_list_of_billions():
  assert len(checked.numbers(np.array([0, 2**40]))) == 65_536
