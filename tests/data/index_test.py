"""One pass, checked by NumPy and hashlib; kept, and made anew."""

import hashlib
import os
import pathlib

import numpy as np
import pytest

from amtml_jax.data import index, pictures
from amtml_jax.errors import UserError
from tests.data import counting


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  return tmp_path / "cache" / "amtml_jax" / "index"


def of(examples):
  return index.of(examples, say=print)


def same(a, b):
  return (
    np.array_equal(a.label, b.label)
    and np.array_equal(a.moments, b.moments)
    and a.fingerprint == b.fingerprint
  )


@pytest.mark.parametrize("chunk", [1, 60, 8 << 20])
def test_sums_and_hash_of_every_image(monkeypatch, chunk):
  monkeypatch.setattr(index, "CHUNK", chunk)  # an image, five, all at once
  examples = counting.gray(23)
  found = of(examples)
  assert found.label.tolist() == (np.arange(23) % 4).tolist()
  pixels = examples.image.reshape(23, 6, 2).astype(int)
  np.testing.assert_array_equal(found.moments[:, 0], pixels.sum(1))
  np.testing.assert_array_equal(found.moments[:, 1], (pixels**2).sum(1))
  head = repr(((23, 3, 2, 2), ("a", "b", "c", "d"))).encode()
  labels = examples.label.astype("<i4").tobytes()
  whole = hashlib.sha256(head + examples.image.tobytes() + labels)
  assert found.fingerprint == whole.hexdigest()
  # Every row once.
  rows = [row for read in examples.reads for row in read]
  assert sorted(rows) == list(range(23))


@pytest.mark.parametrize(("small", "threads"), [(12, 3), (13, 1)])
def test_little_is_held_at_once(monkeypatch, small, threads):
  monkeypatch.setattr(index, "CHUNK", 12)
  monkeypatch.setattr(index, "SMALL", small)
  monkeypatch.setattr(pictures, "THREADS", 3)
  examples = counting.gray(200)
  of(examples)
  assert len(examples.reads) == 200
  assert 1 <= len(examples.threads) <= threads
  # A chunk a thread, the next one in the row, and the one in use.
  assert examples.most <= threads + 2


def test_a_kept_index_spares_the_pass(cache):
  examples = counting.gray(23)
  examples.identity = "these files"
  first = of(examples)
  assert len(list(cache.iterdir())) == 1  # and nothing else lies about
  examples.reads.clear()
  assert same(of(examples), first)
  assert not examples.reads
  # Other files, other classes, another size: another index.
  for change in (
    {"identity": "other files"},
    {"classes": tuple("abce")},
    {"label": np.arange(22) % 4, "image": examples.image[:22]},
  ):
    vars(examples).update(change)
    of(examples)
    assert examples.reads
    examples.reads.clear()


def test_without_an_identity_nothing_is_kept(cache):
  of(counting.gray(5))
  assert not cache.exists()


def test_a_damaged_index_is_made_anew(cache):
  examples = counting.gray(5)
  examples.identity = "these files"
  first = of(examples)
  (path,) = cache.iterdir()
  whole = path.read_bytes()
  label = whole.index(b"label.npy") + 100
  damaged = [
    b"",
    b"some text",
    whole[:-1],
    whole[: len(whole) // 2],
    whole[:label] + bytes([whole[label] ^ 1]) + whole[label + 1 :],
  ]
  for content in damaged:
    path.write_bytes(content)
    examples.reads.clear()
    assert same(of(examples), first)
    assert examples.reads
    assert path.read_bytes() == whole
  # Whole, but not what this set's index looks like.
  kept = dict(label=first.label[:3], moments=first.moments, fingerprint="x")
  np.savez(path, **kept)
  assert same(of(examples), first)


def test_where_nothing_can_be_kept(tmp_path, monkeypatch, capsys):
  (tmp_path / "file").write_text("")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
  examples = counting.gray(5)
  examples.identity = "these files"
  assert len(of(examples).label) == 5
  assert "cannot keep the index of the data" in capsys.readouterr().out


def test_a_long_pass_says_how_far_it_is(monkeypatch, capsys):
  monkeypatch.setattr(index, "CHUNK", 12)
  of(counting.gray(3))
  assert capsys.readouterr().out == ""
  monkeypatch.setattr(index, "SECONDS_BETWEEN_LINES", 0)
  examples = counting.gray(3)
  examples.where = "here"
  of(examples)
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 3
  assert lines[1].startswith("here: 2 of 3 images indexed, ")


def test_what_is_wrong_ends_the_pass():
  examples = counting.gray(5)
  examples.label = examples.label + 1
  with pytest.raises(UserError, match=r"counting: labels run from 1 to 4, but"):
    of(examples)
  examples = counting.gray(5)
  examples.shape = (3, 2, 1)
  with pytest.raises(UserError, match=r"5 images of \(3, 2, 1\) were asked fo"):
    of(examples)
  examples = counting.gray(5)
  examples.image = examples.image / 255
  with pytest.raises(UserError, match="images are float64; save them as uint8"):
    of(examples)


def test_identity(tmp_path):
  path = tmp_path / "a"
  path.write_text("x")
  first = index.identity([path], 32)
  assert first == index.identity([str(path)], 32)
  assert index.identity([path], 64) != first
  stamp = path.stat().st_mtime_ns
  os.utime(path, ns=(stamp, stamp + 1))
  assert index.identity([path], 32) != first
  path.write_text("xy")
  os.utime(path, ns=(stamp, stamp))
  assert index.identity([path], 32) != first
  os.truncate(path, 1)
  os.utime(path, ns=(stamp, stamp))
  assert index.identity([path], 32) == first
  assert index.identity([path, pathlib.Path("gs://far/away")]) == ""
