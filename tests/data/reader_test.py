"""Batches read ahead, against plain indexing of the same arrays."""

import threading
import time

import numpy as np
import pytest

from amtml_jax.data import digits, npy, pipeline, reader, streamed
from amtml_jax.errors import UserError
from tests.data import counting

CLASSES = tuple("0123456789")


@pytest.fixture
def data(tmp_path, monkeypatch):
  """100 digits, streamed from a folder."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  whole = digits.load("train")
  np.save(tmp_path / "train_images.npy", whole.image[:100])
  np.save(tmp_path / "train_labels.npy", whole.label[:100])
  return streamed.dataset(npy.examples("train", folder=str(tmp_path)))


def steps(data, first, last, **more):
  with reader.batches(
    data, seed=5, batch=32, first=first, last=last, **more
  ) as batches:
    return list(batches)


def check_equal(found, expected):
  assert len(found) == len(expected)
  for a, b in zip(found, expected, strict=True):
    for x, y in zip(a, b, strict=True):
      np.testing.assert_array_equal(x, y)
      assert np.asarray(x).dtype == np.asarray(y).dtype


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_the_rows_and_images_of_the_resident_run(data, threads):
  whole = digits.load("train")
  found = steps(data, 0, 7, threads=threads, prefetch=4)
  assert [epoch for *_, epoch in found] == [0, 0, 0, 1, 1, 1, 2]
  for step, (rows, image, label, _) in enumerate(found):
    expected, _ = pipeline.rows_of(step, seed=5, size=100, batch=32)
    assert rows.tolist() == expected.tolist()
    np.testing.assert_array_equal(image, whole.image[expected])
    np.testing.assert_array_equal(label, whole.label[expected])
    dtypes = (rows.dtype, image.dtype, label.dtype)
    assert dtypes == (np.int32, np.uint8, np.int32)


def test_a_resident_set_gives_the_same(data):
  whole = npy.load("train", folder=str(data.image._examples._path.parent))
  assert whole.resident
  check_equal(steps(whole, 2, 5), steps(data, 2, 5))
  with (
    reader.in_order(whole, batch=32) as a,
    reader.in_order(data, batch=32) as b,
  ):
    check_equal(list(a), list(b))


def test_the_parts_of_processes_are_the_whole_batch(data):
  whole = steps(data, 0, 4)
  halves = [
    steps(data, 0, 4, part=slice(i * 16, (i + 1) * 16)) for i in range(2)
  ]
  for (*all_, epoch), (*a, first), (*b, second) in zip(
    whole, *halves, strict=True
  ):
    assert epoch == first == second
    check_equal([[np.concatenate(x) for x in zip(a, b, strict=True)]], [all_])


def test_it_goes_on_at_any_step_with_any_processes(data):
  whole = steps(data, 0, 9)
  check_equal(steps(data, 4, 9), whole[4:])
  part = slice(8, 16)
  expected = [(*(x[part] for x in a), epoch) for *a, epoch in whole[4:]]
  check_equal(steps(data, 4, 9, part=part), expected)
  assert steps(data, 9, 9) == []


def test_evaluation_sees_every_row_once(data):
  whole = digits.load("train")
  with reader.in_order(data, batch=32) as batches:
    rows, mask, image, label = zip(*batches, strict=True)
  assert [len(x) for x in rows] == [32] * 4
  rows, mask, image, label = map(np.concatenate, (rows, mask, image, label))
  assert rows[mask == 1].tolist() == list(range(100))
  assert mask[:100].tolist() == [1] * 100
  assert rows[100:].tolist() == [0] * 28
  np.testing.assert_array_equal(image, whole.image[rows])
  np.testing.assert_array_equal(label, whole.label[rows])
  assert (rows.dtype, mask.dtype) == (np.int32, np.float32)
  with reader.in_order(data, batch=32, part=slice(16, 32)) as batches:
    last = list(batches)[-1]
  # Of the batch of the rows 96 to 99 the second half is all padding.
  assert last[0].tolist() == [0] * 16
  assert last[1].tolist() == [0] * 16


@pytest.mark.parametrize(("threads", "prefetch"), [(1, 1), (2, 4), (4, 6)])
def test_so_much_is_held_and_no_more(threads, prefetch):
  examples = counting.gray(64)
  data = streamed.dataset(examples)
  examples.most, examples.threads = 0, set()
  with reader.batches(
    data,
    seed=0,
    batch=8,
    first=0,
    last=60,
    threads=threads,
    prefetch=prefetch,
  ) as batches:
    for _ in batches:
      time.sleep(0.002)  # a slow step: the threads are ahead
  assert examples.most <= prefetch + 2
  assert len(examples.threads) <= threads
  assert len(examples.reads) == 1 + 60


def test_batches_are_read_while_a_step_works():
  examples = counting.gray(64)
  data = streamed.dataset(examples)
  examples.reads.clear()
  with reader.batches(
    data, seed=0, batch=8, first=3, last=60, threads=2, prefetch=4
  ) as batches:
    until(lambda: len(examples.reads) == 4)  # before anyone asks
    next(batches)
    until(lambda: len(examples.reads) == 5)
  rows = [pipeline.rows_of(s, seed=0, size=64, batch=8)[0] for s in range(3, 8)]
  assert sorted(examples.reads) == sorted(r.tolist() for r in rows)


def until(true):
  for _ in range(500):
    if true():
      return
    time.sleep(0.01)
  raise AssertionError("it never became true")


def test_no_thread_is_left(data):
  before = set(threading.enumerate())

  class Slow(counting.Counting):
    def read(self, rows):
      time.sleep(0.05)
      return super().read(rows)

  fast = counting.gray(64)
  slow = streamed.dataset(Slow(fast.image, fast.label, fast.classes))
  for one in (data, slow):
    batches = reader.batches(one, seed=0, batch=8, first=0, last=60)
    next(batches)
    assert set(threading.enumerate()) > before
    batches.close()
    assert set(threading.enumerate()) == before
    batches.close()
    with pytest.raises(ValueError, match="closed"):
      next(batches)
  unused = reader.in_order(data, batch=8)
  unused.close()
  steps(data, 0, 4)
  assert set(threading.enumerate()) == before
  ended = reader.in_order(data, batch=32)
  assert len(list(ended)) == 4
  assert set(threading.enumerate()) == before
  assert list(ended) == []
  forgotten = reader.batches(data, seed=0, batch=8, first=0, last=60)
  next(forgotten)
  del forgotten
  until(lambda: set(threading.enumerate()) == before)


def test_an_error_comes_out_of_the_iterator(data):
  before = set(threading.enumerate())
  path = data.image._examples._path
  path.write_bytes(path.read_bytes()[:-64])
  rows = [pipeline.rows_of(s, seed=5, size=100, batch=32)[0] for s in range(9)]
  damaged = next(s for s, r in enumerate(rows) if 99 in r)
  batches = reader.batches(data, seed=5, batch=32, first=0, last=9)
  for _ in range(damaged):
    next(batches)
  with pytest.raises(UserError, match="has become shorter while it is") as info:
    next(batches)
  assert type(info.value) is UserError
  assert set(threading.enumerate()) == before
  with pytest.raises(UserError, match="a batch of 101 cannot be drawn from"):
    reader.batches(data, seed=5, batch=101, first=0, last=1)
