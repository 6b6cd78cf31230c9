"""The same set, held in memory and read where it lies."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from amtml_jax.data import digits, index, splits, streamed, tfds
from amtml_jax.errors import UserError
from tests.data import counting
from tests.data.tfds_test import features, pictures, rows, written


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
  """The digits as .npy files."""
  for split in ("train", "test"):
    data = digits.load(split)
    np.save(tmp_path / f"{split}_images.npy", data.image)
    np.save(tmp_path / f"{split}_labels.npy", data.label)
  return str(tmp_path)


def both(source, **chosen):
  """Splits of the resident and of the streamed set."""
  return tuple(
    splits.make(
      lambda split, mb=mb: streamed.opened(
        source, split, resident_mb=mb, **chosen
      ),
      validation=0.2,
    )
    for mb in (1, 0)
  )


def check_same(resident, lazy):
  assert (lazy.mean, lazy.std) == (resident.mean, resident.std)  # to the bit
  assert lazy.fingerprint == resident.fingerprint
  for part in ("train", "validation", "test"):
    a, b = getattr(resident, part), getattr(lazy, part)
    assert (a.resident, b.resident) == (True, False)
    assert b.image.shape == a.image.shape
    assert b.image.dtype == a.image.dtype
    assert len(b.image) == len(a.image)
    np.testing.assert_array_equal(b.image[:], a.image)
    np.testing.assert_array_equal(b.label, a.label)
    assert b.label.dtype == a.label.dtype
    assert b.classes == a.classes


def test_digits_as_arrays(folder, monkeypatch):
  monkeypatch.setattr(index, "CHUNK", 1000)  # 16 images
  resident, lazy = both("npy", folder=folder)
  check_same(resident, lazy)
  np.testing.assert_array_equal(
    np.concatenate([lazy.train.image[:], lazy.validation.image[:]]).sum(0),
    digits.load("train").image.sum(0),
  )


def test_a_tfds_set(tmp_path, monkeypatch):
  monkeypatch.setattr(index, "CHUNK", 400)  # 3 images
  images = pictures(30, 6, 7, 3)
  parts = {"train": rows(images), "test": rows(images[:4])}
  kinds = features((6, 7, 3))
  where = written(tmp_path, "streamed", kinds, parts)
  check_same(*both("tfds", folder=where, name="streamed"))
  check_same(*both("tfds", folder=where, name="streamed", image_size=4))
  # Another size is another data set: the kept index is not used for it.
  found = tfds.examples("train", folder=where, name="streamed", image_size=4)
  other = tfds.examples("train", folder=where, name="streamed", image_size=5)
  assert found.identity != other.identity
  assert "streamed-train.array_record" in found.identity


def test_a_users_own_files(tmp_path):
  for split in ("train", "test"):
    data = digits.load(split)
    for i in range(100):
      path = tmp_path / split / str(data.label[i]) / f"{i:03}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(data.image[i, ..., 0]).save(path)
  resident, lazy = both("tests.pictures", folder=str(tmp_path))
  check_same(resident, lazy)
  assert lazy.train.image.shape[1:] == (8, 8, 3)


def test_who_streams(folder):
  def resident(source, mb):
    return streamed.opened(
      source, "train", folder=folder, resident_mb=mb
    ).resident

  assert resident("npy", 1)
  assert not resident("npy", 0)
  assert resident("digits", 0)  # it cannot
  with pytest.raises(UserError, match="there is no data source called 'nope'"):
    resident("nope", 0)
  examples = counting.gray(2)
  examples.shape = (1024, 1024, 1)
  assert not streamed.streams(examples, 2)  # exactly as many
  assert streamed.streams(examples, 1)


def test_collected_is_checked_and_whole(monkeypatch):
  monkeypatch.setattr(index, "CHUNK", 60)  # 5 images
  examples = counting.gray(23)
  data = streamed.collected(examples)
  np.testing.assert_array_equal(data.image, examples.image)
  np.testing.assert_array_equal(data.label, examples.label)
  assert data.label.dtype == np.int32
  examples.label = examples.label - 1
  with pytest.raises(UserError, match="labels run from -1 to 2"):
    streamed.collected(examples)


def test_a_set_without_images():
  for make in (streamed.dataset, streamed.collected):
    with pytest.raises(UserError, match="nothing to learn from"):
      make(counting.gray(0))


def test_splits_read_no_image_but_the_pass():
  examples = counting.gray(40)
  data = streamed.dataset(examples)
  examples.reads.clear()
  made = splits.make(lambda split: data, labels_per_class=3)
  assert not examples.reads
  whole = dataclasses.replace(data, image=examples.image)
  again = splits.make(lambda split: whole, labels_per_class=3)
  assert (made.mean, made.std) == (again.mean, again.std)
  np.testing.assert_array_equal(made.train.image[:], again.train.image)


def test_pictures_are_read_by_rows_alone():
  examples = counting.gray(40)
  image = streamed.dataset(examples).image
  np.testing.assert_array_equal(image[5:9], examples.image[5:9])
  part = image.take(np.array([30, 3, 8]))
  assert part.shape == (3, 3, 2, 2)
  np.testing.assert_array_equal(part[[2, 0]], examples.image[[8, 30]])
  np.testing.assert_array_equal(
    part.take(np.array([1]))[:], examples.image[[3]]
  )
  np.testing.assert_array_equal(
    part.moments(np.array([0, 2])), splits.moments(examples.image[[30, 8]])
  )
  assert image[:0].shape == (0, 3, 2, 2)
  with pytest.raises(IndexError, match="a slice or by"):
    image[3]
  with pytest.raises(TypeError, match="do not fit in memory"):
    np.asarray(image)
  with pytest.raises(ValueError, match="a part of a split has no fingerprint"):
    splits.fingerprint(
      dataclasses.replace(streamed.dataset(examples), image=part)
    )


def test_files_that_change_after_the_pass():
  examples = counting.gray(40)
  image = streamed.dataset(examples).image
  examples.label = examples.label[::-1]
  with pytest.raises(UserError, match="is not what it was when it was indexed"):
    image[:4]
