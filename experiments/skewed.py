"""A data source: another one whose training split knows some classes best.

`config.data.source = "amtml_jax.experiments.skewed"` with `data.name` as
SOURCE/CLASSES/SKEW, say `idx/0+2+4+6/0.97`: every image of its own classes, and
of each other class a share of 1 - SKEW, drawn by the rows' own numbers (at
least one image: every class has to be seen). The test split stays whole.
"""

import numpy as np

from amtml_jax import plugins
from amtml_jax.data import splits
from amtml_jax.errors import UserError
from amtml_jax.types import Dataset


def load(
  split: str, *, folder: str = "", name: str = "", image_size: int = 0
) -> Dataset:
  """One split; `folder` and `image_size` are the source's own."""
  try:
    source, own, skew = name.split("/")
    kept = {int(c) for c in own.split("+")}
    left = 1.0 - float(skew)
  except ValueError:
    raise UserError(
      f"config.data.name={name!r} must be SOURCE/CLASSES/SKEW, such as "
      "idx/0+2+4+6/0.97"
    ) from None
  data = plugins.find("data", source)(
    split, folder=folder, name="", image_size=image_size
  )
  if split != "train":
    return data
  groups = splits.by_class(data.label, len(data.classes), seed=0)
  sizes = [
    len(group) if c in kept else max(1, round(left * len(group)))
    for c, group in enumerate(groups)
  ]
  rows = [g[:size] for g, size in zip(groups, sizes, strict=True)]
  rows = np.sort(np.concatenate(rows))
  return Dataset(data.image[rows], data.label[rows], data.classes)
