"""scikit-learn's 1,797 handwritten digits of 8 × 8 pixels: nothing to fetch.

Values 0 to 16 become `rint(value · 255 / 16)`, so 16 is 255 and 8, the only
tie, is 128. Scikit-learn ships one set; a fifth of every class, chosen once
and for all by `SEED`, is the test split, whatever the seed of a run.
"""

from __future__ import annotations

import numpy as np

from amtml_jax.data import checked, splits
from amtml_jax.types import Dataset

SEED = 0
TEST = 0.2


def load(
  split: str, *, folder: str = "", name: str = "", image_size: int = 0
) -> Dataset:
  """The digits, `(N, 8, 8, 1)`; every keyword is ignored."""
  del folder, name, image_size
  from sklearn.datasets import load_digits

  bunch = load_digits()
  image = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
  label = bunch.target
  groups = splits.by_class(label, 10, seed=SEED)
  held = [group[: splits.share(len(group), TEST)] for group in groups]
  test = np.isin(np.arange(len(label)), np.concatenate(held))
  rows = test if checked.split(split) == "test" else ~test
  return checked.dataset(
    image[rows], label[rows], list("0123456789"), where="digits"
  )
