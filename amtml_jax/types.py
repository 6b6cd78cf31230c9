"""The pytrees that walk through the package. No logic lives here."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import flax.struct
import jax
import numpy as np


class Examples(Protocol):
  """A split that is read where it lies, for one that does not fit in memory.

  A data source's file may have `examples(split, *, folder, name, image_size)`
  beside `load`, which gives one of these. Two more attributes may be there:
  `where`, the file or set that a message names, and `identity`, a cheap
  description of exactly these files (`data.index.identity` makes one): what one
  pass over the split finds out is kept under it, so that a run that starts
  again does not read all of it again. Without it, or with "", nothing is kept.

  Attributes:
    shape: `(H, W, channels)`, the same for every image.
    classes: the classes' names, in the order of their labels.
  """

  shape: tuple[int, int, int]
  classes: Sequence[str]

  def __len__(self) -> int:
    """How many images there are."""

  def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reads some images; several threads call it at once.

    Args:
      rows: `(n,)` integers in `[0, len(self))`, in any order, n > 0.

    Returns:
      `(n, H, W, channels)` uint8 and `(n,)` integers in `[0, len(classes))`.

    Raises:
      UserError: what is wrong with the files, in one sentence.
    """


@dataclasses.dataclass(frozen=True)
class Dataset:
  """One split of a data set.

  Attributes:
    image: `(N, H, W, channels)` uint8: an array, or `data.pictures.Pictures`,
      which are read when they are asked for and never held whole.
    label: `(N,)` int32, in `[0, len(classes))`.
    classes: the classes' names, in the order of their labels.
  """

  image: Any
  label: np.ndarray
  classes: tuple[str, ...]

  @property
  def resident(self) -> bool:
    """Whether the images are an array in host memory."""
    return isinstance(self.image, np.ndarray)


class Batch(flax.struct.PyTreeNode):
  """What one replica sees of one step.

  Attributes:
    image: `(N, H, W, channels)`, uint8, or a float in [0, 1]; augmented, not
      normalised (every network does that with its own mean and std).
    label: `(N,)` int32.
    example: `(N,)` int32, the row of the data set; keys what is random.
    mask: `(N,)` float32, 0 for the rows that only pad the last batch.
  """

  image: jax.Array
  label: jax.Array
  example: jax.Array
  mask: jax.Array


class ModelOutput(flax.struct.PyTreeNode):
  """What every network returns.

  Attributes:
    logits: `(N, C)`, at least float32.
    features: NHWC maps in order of depth (a tuple: JAX sorts dictionaries).
    names: the features' names: `stem`, then `stage1` to `stageL`. Empty means
      that every feature is a stage.
    last_conv: the place in `features` of the last convolutional stage.
  """

  logits: jax.Array
  features: tuple[jax.Array, ...]
  names: tuple[str, ...] = flax.struct.field(pytree_node=False, default=())
  last_conv: int = flax.struct.field(pytree_node=False, default=-1)

  @property
  def last(self) -> jax.Array:
    """The last convolutional stage's map."""
    return self.features[self.last_conv]

  @property
  def stages(self) -> tuple[jax.Array, ...]:
    """The groups l = 1..L of hints: every feature but the stem."""
    names = self.names or ("",) * len(self.features)
    pairs = zip(names, self.features, strict=True)
    return tuple(f for name, f in pairs if name != "stem")


class DistillInputs(flax.struct.PyTreeNode):
  """What every loss term may look at, for one replica's rows.

  Teachers' outputs carry no gradient. Without teachers the next three arrays
  are None and `teachers` is empty.

  Attributes:
    student: the student's output.
    labels: `(N,)`.
    teachers: the teachers' outputs, in the manifest's order.
    log_weights: `(N, m)` from the adapter.
    only: the one teacher that is listened to, where that is known before any
      image is seen: what nothing looks at of the others is not computed.
    teacher_log_probs: `(m, N, C)` at temperature 1.
    target_log_probs: `(N, C)`, the integrated soft targets at `temperature`.
    peer_log_probs: `(P, N, C)` at temperature 1, of all students that learn
      together, this one among them; no gradient. None where one learns alone.
    temperature: τ.
    axis: the name of the axis of replicas, None where there is none.
  """

  student: ModelOutput
  labels: jax.Array
  teachers: tuple[ModelOutput, ...] = ()
  log_weights: jax.Array | None = None
  teacher_log_probs: jax.Array | None = None
  target_log_probs: jax.Array | None = None
  peer_log_probs: jax.Array | None = None
  only: int | None = flax.struct.field(pytree_node=False, default=None)
  temperature: float = flax.struct.field(pytree_node=False, default=1.0)
  axis: str | None = flax.struct.field(pytree_node=False, default=None)
