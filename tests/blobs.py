"""A user's own data source: three easy classes of 4x4 images."""

import numpy as np

from amtml_jax.types import Dataset

CLASSES = ("dark", "top", "bottom")


def load(split, *, folder="", name="", image_size=0):
  del folder, name, image_size
  rng = np.random.default_rng({"train": 0, "test": 1}[split])
  label = np.repeat(
    np.arange(3, dtype=np.int32), {"train": 40, "test": 20}[split]
  )
  image = rng.integers(0, 120, (len(label), 4, 4, 1))
  image[label == 1, :2] += 80
  image[label == 2, 2:] += 80
  return Dataset(image.astype(np.uint8), label, CLASSES)
