"""Examples that say how often they are read, and what of it is still held."""

import threading
import weakref

import numpy as np


class Counting:
  """`read` takes from arrays in memory; `most` of its images lived at once."""

  def __init__(self, image, label, classes, identity=""):
    self.image, self.label, self.classes = image, label, classes
    self.shape, self.identity = image.shape[1:], identity
    self.reads, self.threads, self.most = [], set(), 0
    # Lists: appending to one is safe wherever the collector calls it.
    self._born, self._gone = [], []
    self._lock = threading.Lock()

  def __len__(self):
    return len(self.label)

  def read(self, rows):
    image = self.image[rows]
    with self._lock:
      self.reads.append(rows.tolist())
      self.threads.add(threading.get_ident())
      self._born.append(None)
      self.most = max(self.most, len(self._born) - len(self._gone))
    weakref.finalize(image, self._gone.append, None)
    return image, self.label[rows]


def gray(size, classes=4):
  """Noise `(size, 3, 2, 2)` of `classes` classes, each of them there."""
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (size, 3, 2, 2), dtype=np.uint8)
  names = tuple("abcdefgh"[:classes])
  return Counting(image, np.arange(size) % classes, names)
