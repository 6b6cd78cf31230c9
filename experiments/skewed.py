"""A data source: another one whose training split knows some classes best.

`config.data.source = "amtml_jax.experiments.skewed"` with `data.name` as
SOURCE/CLASSES/SKEW/VALIDATION/SEED, say `idx/0+2+4+6/0.97/0.1/0`: every image
of its own classes, and of each other class a share of 1 - SKEW, drawn by the
rows' own numbers (at least one image: every class has to be seen). What a
student of the whole source holds out for validation, by its `data.validation`
and `data.split_seed`, is in no teacher's part. The test split stays whole.
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
    source, own, skew, validation, seed = name.split("/")
    kept, left = {int(c) for c in own.split("+")}, 1.0 - float(skew)
    held, seed = float(validation), int(seed)
  except ValueError:
    raise UserError(
      f"config.data.name={name!r} must be SOURCE/CLASSES/SKEW/VALIDATION/SEED, "
      "such as idx/0+2+4+6/0.97/0.1/0"
    ) from None
  data = plugins.find("data", source)(
    split, folder=folder, name="", image_size=image_size
  )
  if split != "train":
    return data
  count, taken = len(data.classes), []
  groups = splits.by_class(data.label, count, seed=seed)
  # Not in the order of the split, whose first rows a student with few labels
  # gets: it would know either all or none of a teacher's other classes.
  orders = splits.by_class(data.label, count, seed=seed + 1)
  for c, (group, order) in enumerate(zip(groups, orders, strict=True)):
    free = order[~np.isin(order, group[: splits.share(len(group), held)])]
    size = len(free) if c in kept else max(1, round(left * len(free)))
    taken.append(free[:size])
  rows = np.sort(np.concatenate(taken))
  return Dataset(data.image[rows], data.label[rows], data.classes)
