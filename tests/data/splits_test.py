"""Who trains, who validates: counts by hand, statistics by NumPy."""

import dataclasses
import fractions
import hashlib
import math

import numpy as np
import pytest

from amtml_jax.data import splits
from amtml_jax.errors import UserError
from amtml_jax.types import Dataset

# 20 of a, 15 of b, 4 of c, 1 of d, shuffled.
LABEL = np.repeat(np.arange(4), [20, 15, 4, 1])
LABEL = np.random.default_rng(0).permutation(LABEL).astype(np.int32)


def image_of(rows):
  """An image whose first pixel is its row, the rest noise of two channels."""
  rng = np.random.default_rng(1)
  image = rng.integers(0, 200, (40, 3, 3, 2), dtype=np.uint8)
  image[..., 1] //= 4
  image[:, 0, 0, 0] = np.arange(40)
  return image[rows]


def load(split):
  rows = np.arange(40) if split == "train" else np.arange(5)
  return Dataset(image_of(rows), LABEL[rows], ("a", "b", "c", "d"))


def rows_of(data):
  return data.image[:, 0, 0, 0].tolist()


def counts(data):
  return np.bincount(data.label, minlength=4).tolist()


def test_a_share_of_every_class_is_held_out():
  made = splits.make(load, validation=0.1)
  # 2.0; 1.5, rounded half up; 0.4, but at least 1; the last one stays.
  assert counts(made.validation) == [2, 2, 1, 0]
  assert counts(made.train) == [18, 13, 3, 1]
  # A whole class is never held out.
  assert counts(splits.make(load, validation=0.99).train) == [1, 1, 1, 1]
  assert counts(splits.make(load, validation=0.0).train) == [20, 15, 4, 1]


def test_rows_are_disjoint_whole_and_in_order():
  made = splits.make(load, validation=0.3)
  train, held = rows_of(made.train), rows_of(made.validation)
  assert sorted(train + held) == list(range(40))
  assert train == sorted(train)
  assert made.train.label.tolist() == LABEL[train].tolist()
  assert made.validation.label.tolist() == LABEL[held].tolist()
  np.testing.assert_array_equal(made.train.image, image_of(train))


def test_the_choice_is_seeded():
  def held(seed):
    return rows_of(splits.make(load, validation=0.5, seed=seed).validation)

  assert held(0) == held(0)
  assert held(0) != held(1)
  assert held(-1) not in (held(0), held(1))
  # Written down once: other machines and NumPy versions must choose the same.
  assert rows_of(splits.make(load, validation=0.1).validation) == [
    1,
    3,
    19,
    21,
    30,
  ]


def test_labels_per_class_thins_training_alone():
  def three():
    label = np.minimum(LABEL, 2)
    return lambda split: dataclasses.replace(
      load(split), label=label, classes=("a", "b", "c")
    )

  whole = splits.make(three())
  few = splits.make(three(), labels_per_class=2)
  more = splits.make(three(), labels_per_class=3)
  assert counts(few.train) == [2, 2, 2, 0]
  assert set(rows_of(few.train)) < set(rows_of(more.train))
  assert set(rows_of(more.train)) < set(rows_of(whole.train))
  assert rows_of(few.validation) == rows_of(whole.validation)
  assert (few.mean, few.std) == (whole.mean, whole.std)
  other = splits.make(three(), labels_per_class=2, seed=1)
  assert rows_of(other.train) != rows_of(few.train)


def test_train_size_keeps_the_proportions():
  # Of 18, 13, 3, 1 take 10 / 35: 5.14, 3.71, 0.86, 0.29; floors, at least 1:
  # 5, 3, 1, 1 is 10 already.
  made = splits.make(load, train_size=10)
  assert counts(made.train) == [5, 3, 1, 1]
  # 17.49, 12.63, 2.91, 0.97 of 34: floors 17 12 2 and the 1 leave two, for
  # the largest remainders 0.91 and 0.63.
  assert counts(splits.make(load, train_size=34).train) == [17, 13, 3, 1]
  assert counts(splits.make(load, train_size=4).train) == [1, 1, 1, 1]
  assert counts(splits.make(load, train_size=35).train) == [18, 13, 3, 1]
  whole = splits.make(load)
  assert (made.mean, made.std) == (whole.mean, whole.std)
  assert counts(made.validation) == [2, 2, 1, 0]


def test_statistics_are_those_of_training_without_validation():
  made = splits.make(load, validation=0.4)
  pixels = made.train.image.astype(np.float64) / 255
  np.testing.assert_allclose(made.mean, pixels.mean((0, 1, 2)), rtol=1e-13)
  np.testing.assert_allclose(made.std, pixels.std((0, 1, 2)), rtol=1e-13)
  assert len(made.mean) == 2
  assert isinstance(made.mean[0], float)


def test_statistics_are_rounded_once():
  # A white pixel among ten million black ones, by fractions.
  n = 10**7
  image = np.zeros((10, 1000, 1000, 1), np.uint8)
  image[3, 500, 500] = 255
  (mean,), (std,) = splits.statistics(image, np.arange(10))
  assert mean == 1 / n
  assert std == 1 / 255  # the floor; what it stands for is next
  image[:5] = 255
  image[3, 500, 500] = 254
  (mean,), (std,) = splits.statistics(image, np.arange(10))
  s, q = 255 * n // 2 - 1, 255**2 * n // 2 - 255**2 + 254**2
  assert mean == float(fractions.Fraction(s, 255 * n))
  variance = fractions.Fraction(q * n - s * s, (255 * n) ** 2)
  assert std == math.sqrt(variance)


def test_moments_are_exact_however_large():
  image = np.full((2, 300, 300, 2), 255, np.uint8)
  image[1, ..., 1] = 1
  n = 300 * 300
  assert splits.moments(image).tolist() == [
    [[255 * n, 255 * n], [65025 * n, 65025 * n]],  # more than 32 bits
    [[255 * n, n], [65025 * n, n]],
  ]


def test_the_fingerprint_is_of_names_images_and_labels():
  data = load("train")
  head = repr(((40, 3, 3, 2), ("a", "b", "c", "d"))).encode()
  body = data.image.tobytes() + data.label.tobytes()
  expected = hashlib.sha256(head + body).hexdigest()
  assert splits.fingerprint(data) == expected
  flipped = dataclasses.replace(data, image=data.image[:, ::-1][:, ::-1])
  assert not flipped.image.flags.owndata
  assert splits.fingerprint(flipped) == expected
  other = dataclasses.replace(data, image=data.image[:, ::-1])  # strided
  assert splits.fingerprint(other) != expected


def test_statistics_of_more_rows_than_a_chunk():
  image = np.random.default_rng(2).integers(0, 256, (2500, 2, 2, 1), np.uint8)
  rows = np.arange(0, 2500, 2)
  (mean,), (std,) = splits.statistics(image, rows)
  assert mean == pytest.approx(image[rows].mean() / 255, rel=1e-12)
  assert std == pytest.approx(image[rows].std() / 255, rel=1e-12)


def test_constant_images_have_a_floor_of_one_grey_level():
  image = np.full((3, 2, 2, 1), 51, np.uint8)
  mean, std = splits.statistics(image, np.arange(3))
  assert mean == pytest.approx((0.2,), rel=1e-15)
  assert std == (1 / 255,)


def test_the_test_split_is_read_once_and_late():
  asked = []

  def spy(split):
    asked.append(split)
    return load(split)

  made = splits.make(spy)
  assert asked == ["train"]
  assert rows_of(made.test) == [0, 1, 2, 3, 4]
  assert made.test is made.test
  assert asked == ["train", "test"]


def changed(split, **fields):
  def other(name):
    data = load(name)
    return dataclasses.replace(data, **fields) if name == split else data

  return other


def test_the_test_split_must_fit():
  other = changed("test", classes=("a", "b", "c", "e"))
  with pytest.raises(UserError, match="a, b, c, d, the test split a, b, c, e"):
    _ = splits.make(other).test
  other = changed("test", image=np.zeros((5, 4, 3, 2), np.uint8))
  with pytest.raises(UserError, match=r"\(3, 3, 2\), test images \(4, 3, 2\)"):
    _ = splits.make(other).test


@pytest.mark.parametrize(
  ("numbers", "message"),
  [
    ({"validation": 1.0}, r"must be in \[0, 1\), not 1.0"),
    ({"validation": -0.1}, "not -0.1"),
    ({"validation": float("nan")}, "not nan"),
    ({"labels_per_class": -1}, "must not be negative"),
    ({"train_size": -1}, "must not be negative"),
    ({"labels_per_class": 1, "train_size": 9}, "not both"),
    ({"labels_per_class": 2}, "the class 'd' has 1 training images"),
    ({"train_size": 3}, r"from 4 \(one a class\) to 35"),
    ({"train_size": 36}, "it can be from 4"),
  ],
)
def test_impossible_numbers(numbers, message):
  with pytest.raises(UserError, match=message):
    splits.make(load, **numbers)


def test_a_class_without_images():
  other = changed("train", classes=("a", "b", "c", "d", "e"))
  with pytest.raises(UserError, match="no training image is of the class 'e'"):
    splits.make(other)
