"""A user's own set that need not fit in memory: PNG files, a folder a class.

`--config.data.source=tests.pictures --config.data.folder=/where/it/lies`
"""

import pathlib

import numpy as np
from PIL import Image

from amtml_jax.data import index, streamed


class Files:
  """Random access by row; the files are opened when they are read."""

  def __init__(self, folder):
    self.where = str(folder)
    self.classes = sorted(path.name for path in folder.iterdir())
    self.paths = sorted(folder.glob("*/*.png"))
    self.shape = self.read(np.array([0]))[0].shape[1:]
    # Without it the files are all read again whenever a run starts.
    self.identity = index.identity(self.paths)

  def __len__(self):
    return len(self.paths)

  def read(self, rows):
    paths = [self.paths[row] for row in rows]
    image = np.stack([Image.open(path).convert("RGB") for path in paths])
    label = [self.classes.index(path.parent.name) for path in paths]
    return image, np.array(label)


def examples(split, *, folder="", name="", image_size=0):
  del name, image_size
  return Files(pathlib.Path(folder) / split)


def load(split, **chosen):
  return streamed.collected(examples(split, **chosen))
