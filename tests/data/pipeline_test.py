"""Order, rows and augmentation, against hand-made windows."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from amtml_jax.data import pipeline
from amtml_jax.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(1, 256, (40, 6, 5, 3), dtype=np.uint8)
LABELS = RNG.integers(0, 7, 40).astype(np.int32)
KEY = jax.random.key(3)


AUGMENT = jax.jit(pipeline.draw, static_argnames=("pad", "flip"))


def draw(rows, *, key=KEY, epoch=0, pad=2, flip=True):
  if not isinstance(rows, jax.Array):
    rows = np.asarray(rows, np.int32)
  return AUGMENT(IMAGES, LABELS, rows, key=key, epoch=epoch, pad=pad, flip=flip)


def windows(image, pad, flip):
  """Every picture that the augmentation may make of an image."""
  height, width = image.shape[:2]
  black = np.zeros((height + 2 * pad, width + 2 * pad, 3), np.uint8)
  black[pad : pad + height, pad : pad + width] = image
  for mirror in (False, True)[: 1 + flip]:
    for dy in range(2 * pad + 1):
      for dx in range(2 * pad + 1):
        window = black[dy : dy + height, dx : dx + width]
        yield (mirror, dy, dx), window[:, ::-1] if mirror else window


def place(picture, image, pad, flip):
  """Which of the windows a picture is; exactly one."""
  found = [
    name
    for name, window in windows(image, pad, flip)
    if np.array_equal(window, picture)
  ]
  assert len(found) == 1
  return found[0]


def test_order_is_a_pinned_permutation():
  assert sorted(pipeline.order(0, 0, 1000)) == list(range(1000))
  # Written down once: every machine and NumPy version must shuffle like this.
  assert pipeline.order(0, 0, 8).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
  assert pipeline.order(0, 1, 8).tolist() == [5, 3, 7, 2, 4, 1, 0, 6]
  assert pipeline.order(1, 0, 8).tolist() == [3, 5, 2, 7, 0, 6, 1, 4]
  assert pipeline.order(0, 0, 8).dtype == np.int32
  with pytest.raises(ValueError, match="read-only"):
    pipeline.order(0, 0, 8)[0] = 1


def test_an_epoch_sees_no_row_twice_and_drops_the_remainder():
  seen = [pipeline.rows_of(s, seed=5, size=10, batch=3) for s in range(6)]
  assert [epoch for _, epoch in seen] == [0, 0, 0, 1, 1, 1]
  for epoch in (0, 1):
    rows = np.concatenate([r for r, e in seen if e == epoch])
    assert rows.tolist() == pipeline.order(5, epoch, 10)[:9].tolist()
  rows, epoch = pipeline.rows_of(7, seed=5, size=10, batch=10)
  assert (sorted(rows), epoch) == (list(range(10)), 7)


@pytest.mark.parametrize("batch", [0, 11])
def test_impossible_batch(batch):
  with pytest.raises(UserError, match="10 training images; set the batch from"):
    pipeline.rows_of(0, seed=0, size=10, batch=batch)


def test_without_augmentation_images_come_as_they_are():
  rows = [7, 0, 39, 7]
  batch = draw(rows, pad=0, flip=False)
  np.testing.assert_array_equal(batch.image, IMAGES[rows])
  np.testing.assert_array_equal(batch.label, LABELS[rows])
  assert batch.example.tolist() == rows
  assert batch.mask.tolist() == [1, 1, 1, 1]
  dtypes = [x.dtype for x in jax.tree.leaves(batch)]
  assert dtypes == [np.uint8, np.int32, np.int32, np.float32]


def test_a_picture_is_a_window_of_the_black_bordered_image():
  image = draw(range(40)).image
  assert image.dtype == np.uint8
  places = [
    place(image[i], IMAGES[i], pad=2, flip=True) for i in range(len(IMAGES))
  ]
  mirrors, dy, dx = (set(axis) for axis in zip(*places, strict=True))
  assert mirrors == {False, True}
  assert dy == dx == {0, 1, 2, 3, 4}


def test_every_window_is_equally_likely():
  places = []
  rows = np.arange(40)
  for epoch in range(45):
    image = np.asarray(draw(rows, epoch=epoch, pad=1).image)
    places += [place(image[i], IMAGES[i], 1, True) for i in rows]
  # 1,800 draws over 18 windows: 100 each, standard deviation 9.7.
  _, counts = np.unique(places, axis=0, return_counts=True)
  assert len(counts) == 18
  assert np.abs(counts - 100).max() < 40


def test_crop_alone_and_flip_alone():
  cropped = draw(range(40), pad=1, flip=False).image
  shifts = {place(cropped[i], IMAGES[i], 1, False) for i in range(40)}
  assert len(shifts) == 9
  flipped = np.asarray(draw(range(40), pad=0, flip=True).image)
  mirrored = [
    place(flipped[i], IMAGES[i], 0, True) == (True, 0, 0) for i in range(40)
  ]
  assert 8 < sum(mirrored) < 32  # 20, standard deviation 3.2


def test_a_picture_depends_on_key_epoch_and_example_alone():
  whole = np.asarray(draw(range(40)).image)
  np.testing.assert_array_equal(draw([31, 2, 17]).image, whole[[31, 2, 17]])
  np.testing.assert_array_equal(draw(range(40)).image, whole)
  for other in (
    draw(range(40), epoch=1),
    draw(range(40), key=jax.random.key(4)),
  ):
    same = (np.asarray(other.image) == whole).all((1, 2, 3)).sum()
    assert same < 10  # 1 in 50 by chance


@pytest.mark.parametrize(("pad", "flip"), [(2, True), (0, True), (0, False)])
def test_a_batch_that_was_read_gives_the_same_pictures(pad, flip):
  rows = np.array([31, 2, 17, 2], np.int32)
  resident = draw(rows, epoch=3, pad=pad, flip=flip)
  read = AUGMENT(
    IMAGES[rows],
    LABELS[rows],
    np.arange(4, dtype=np.int32),
    example=rows,
    key=KEY,
    epoch=3,
    pad=pad,
    flip=flip,
  )
  for a, b in zip(
    jax.tree.leaves(read), jax.tree.leaves(resident), strict=True
  ):
    np.testing.assert_array_equal(a, b)
    assert a.dtype == b.dtype


def test_the_same_pictures_on_four_devices():
  whole = np.asarray(draw(range(40)).image)
  mesh = jax.make_mesh((4,), ("batch",), (AxisType.Auto,))
  rows = jax.device_put(
    np.arange(40, dtype=np.int32), NamedSharding(mesh, PartitionSpec("batch"))
  )
  before = AUGMENT._cache_size()
  sharded = draw(rows)
  np.testing.assert_array_equal(sharded.image, whole)
  assert len(sharded.image.sharding.device_set) == 4
  draw(rows, epoch=1)
  assert AUGMENT._cache_size() == before + 1  # the epoch compiles nothing


def test_evaluation_pads_its_last_batch():
  rows, mask = pipeline.padded(np.array([4, 9], np.int32), 5)
  assert rows.tolist() == [4, 9, 0, 0, 0]
  assert mask.tolist() == [1, 1, 0, 0, 0]
  assert (rows.dtype, mask.dtype) == (np.int32, np.float32)
  assert pipeline.padded(np.arange(3), 3)[1].tolist() == [1, 1, 1]
  with pytest.raises(ValueError, match="3 rows do not fit into a batch of 2"):
    pipeline.padded(np.arange(3), 2)
