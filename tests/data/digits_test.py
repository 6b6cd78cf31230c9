"""The digits against scikit-learn's own file."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from amtml_jax.data import digits
from amtml_jax.errors import UserError


def test_two_splits_share_out_every_image_once():
  train, test = digits.load("train"), digits.load("test")
  assert train.image.shape[1:] == (8, 8, 1)
  assert train.classes == tuple("0123456789")
  whole = load_digits()
  expected = [
    (label, v.tobytes())
    for v, label in zip(whole.images, whole.target, strict=True)
  ]
  # Values 0 to 16 stay distinct, so the original comes back exactly.
  found = [
    (label, np.rint(v[..., 0] / 255 * 16).tobytes())
    for part in (train, test)
    for v, label in zip(part.image, part.label, strict=True)
  ]
  assert sorted(found) == sorted(expected)


def test_a_fifth_of_every_class_is_tested():
  # load_digits has 178 182 177 183 181 182 181 179 174 180 of the classes; a
  # fifth, by hand: 35.6 36.4 35.4 36.6 36.2 36.4 36.2 35.8 34.8 36.0.
  test = digits.load("test")
  counts = np.bincount(test.label)
  assert counts.tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]


def test_values_are_rounded_to_the_nearest_grey_level():
  values = np.unique(digits.load("train").image)
  # k · 15.9375 by hand; 8 is the tie 127.5, which becomes the even 128.
  assert values.tolist() == [
    *(0, 16, 32, 48, 64, 80, 96, 112, 128),
    *(143, 159, 175, 191, 207, 223, 239, 255),
  ]


def test_the_split_never_moves():
  # Written down once: the split must be the same for every run and release.
  assert digits.load("test").label[:12].tolist() == [
    1,
    4,
    8,
    1,
    8,
    0,
    2,
    4,
    7,
    5,
    0,
    0,
  ]


def test_other_keywords_change_nothing():
  plain = digits.load("test")
  other = digits.load("test", folder="/nowhere", name="x", image_size=3)
  np.testing.assert_array_equal(plain.image, other.image)


def test_unknown_split():
  with pytest.raises(UserError, match="no split 'all'"):
    digits.load("all")
