"""Teachers that are heard once: what they say of every view is kept.

With `config.data.views = K` an image has K augmented views, drawn from (view
seed, view, example); epoch e shows view e mod K. The frozen teachers' outputs
for a view never change, so they are computed once and read from then on: from
the devices where they fit, else from files that the system keeps in memory as
far as it can. A run keeps what its objective reads of them and nothing more.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from amtml_jax import config
from amtml_jax.parallel import Replicas
from amtml_jax.types import ModelOutput


def count(data: config.Data) -> int:
  """How many views an image has; 0: another one in every epoch."""
  # Without padding and mirroring every view is the image itself.
  return data.views if data.pad or data.flip else min(data.views, 1)


def key(data: config.Data) -> jax.Array:
  """What the views are drawn from."""
  return jax.random.fold_in(jax.random.key(data.view_seed), 2)


def compact(output: ModelOutput) -> ModelOutput:
  """A teacher's output as it is kept: float32 maps as float16.

  Logits stay as they are. A map's entry keeps 11 bits, 3 digits.
  """
  features = tuple(
    f.astype(jnp.float16) if f.dtype == jnp.float32 else f
    for f in output.features
  )
  return output.replace(features=features)


@dataclasses.dataclass(frozen=True)
class Reading:
  """Which leaves of the teachers' outputs somebody looks at.

  Attributes:
    like: the shapes of every teacher's output, for any number of rows.
    read: of every leaf of `like`, whether it is looked at.
  """

  like: tuple[ModelOutput, ...]
  read: tuple[bool, ...]

  @classmethod
  def of(
    cls, function: Callable[..., Any], like: tuple[ModelOutput, ...], *args: Any
  ) -> Reading:
    """What a function of (outputs, *args) looks at, by its graph.

    A call inside the graph counts as looking at all that it is given.

    Args:
      function: is traced, not run.
      like: the outputs' shapes.
      *args: shapes, or arrays.
    """
    jaxpr = jax.make_jaxpr(function)(like, *args).jaxpr
    read = {v for v in jaxpr.outvars if not hasattr(v, "val")}
    for equation in reversed(jaxpr.eqns):
      if read.intersection(equation.outvars):
        read.update(v for v in equation.invars if not hasattr(v, "val"))
    own = jaxpr.invars[: len(jax.tree.leaves(like))]
    return cls(like, tuple(v in read for v in own))

  def __or__(self, other: Reading) -> Reading:
    pairs = zip(self.read, other.read, strict=True)
    return Reading(self.like, tuple(a or b for a, b in pairs))

  def take(self, outputs: tuple[ModelOutput, ...]) -> tuple[jax.Array, ...]:
    """What is looked at, of whole outputs."""
    pairs = zip(jax.tree.leaves(outputs), self.read, strict=True)
    return tuple(leaf for leaf, read in pairs if read)

  def give(
    self, values: Iterable[jax.Array], rows: int
  ) -> tuple[ModelOutput, ...]:
    """Whole outputs of what was taken; what nobody looks at is 0."""
    taken = iter(values)
    leaves, tree = jax.tree.flatten(self.like)
    return tree.unflatten(
      next(taken).astype(leaf.dtype)
      if read
      else jnp.zeros((rows, *leaf.shape[1:]), leaf.dtype)
      for leaf, read in zip(leaves, self.read, strict=True)
    )

  @property
  def bytes(self) -> int:
    """Of one row of what is looked at."""
    return sum(
      math.prod(leaf.shape[1:]) * leaf.dtype.itemsize
      for leaf in self.take(self.like)
    )


@dataclasses.dataclass(frozen=True)
class Taught:
  """What the teachers say of every view of every training image.

  Attributes:
    reading: what of it is kept.
    arrays: of every leaf that is kept, an `(N, ...)` array a view.
    replicas: the devices.
    resident: whether the arrays fit on every device.
  """

  reading: Reading
  arrays: tuple[tuple[np.ndarray, ...], ...]
  replicas: Replicas
  resident: bool

  @functools.cached_property
  def shared(self) -> tuple[jax.Array, ...]:
    """Of every leaf `(K, N, ...)` on every device, where they fit."""
    if not self.resident:
      return ()
    return tuple(self.replicas.place(np.stack(leaf)) for leaf in self.arrays)

  def rows(self, rows: np.ndarray, epoch: int) -> tuple[np.ndarray, ...]:
    """Of every leaf `(n, ...)` for the epoch's view, where they do not fit."""
    if self.resident:
      return ()
    return tuple(leaf[epoch % len(leaf)][rows] for leaf in self.arrays)

  def outputs(
    self,
    shared: tuple[jax.Array, ...],
    fed: tuple[jax.Array, ...],
    rows: jax.Array,
    view: jax.Array,
  ) -> tuple[ModelOutput, ...]:
    """The teachers' outputs for `rows (n,)`, inside the compiled step."""
    values = [leaf[view, rows] for leaf in shared] if self.resident else fed
    return self.reading.give(values, len(rows))
