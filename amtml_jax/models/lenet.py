"""LeNet-5, in the form of the authors' repository (models/student/lenet.py).

LeCun et al., "Gradient-based learning applied to document recognition" (1998),
with rectifiers, max pooling and dense layers in place of the original's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtml_jax import types
from amtml_jax.pooling import halved
from amtml_jax.precision import at_least_float32

HE_NORMAL = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Model(nn.Module):
  """Two 5×5 convolutions, each with 2×2 max pooling, and three dense layers.

  The layers are sized for 32×32 images, where this is the authors' network.
  Smaller images are padded so that they last: the first convolution is SAME
  below 32 (so that 28×28 gives the classical 14, 10, 5), the second where less
  than 6 pixels reach it, and pooling stops at one pixel.

  Attributes:
    num_classes: C.
    dtype: of the computation.
    param_dtype: of the parameters.
    axis: the axis of replicas; not used, as there is no batch norm.
    widths: the convolutions' channels.
    hidden: the dense layers' units.
  """

  num_classes: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  widths: tuple[int, int] = (6, 16)
  hidden: tuple[int, ...] = (120, 84)

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool = False,
    keys: jax.Array | None = None,
  ) -> types.ModelOutput:
    """Maps normalised images (N, H, W, channels) to logits and features.

    The features are the maps after each pooling. `train` and `keys` change
    nothing: there is neither batch norm nor dropout.
    """
    del train, keys
    kind = {
      "dtype": self.dtype,
      "param_dtype": self.param_dtype,
      "kernel_init": HE_NORMAL,
    }
    x = x.astype(self.dtype)
    features = []
    for i, least in enumerate((32, 6)):
      padding = "VALID" if min(x.shape[1:3]) >= least else "SAME"
      conv = nn.Conv(
        self.widths[i], (5, 5), padding=padding, **kind, name=f"conv{i + 1}"
      )
      x = nn.relu(conv(x))
      x = halved(x, nn.max_pool)
      features.append(x)
    x = x.reshape(x.shape[0], -1)
    for i, units in enumerate(self.hidden, start=1):
      x = nn.relu(nn.Dense(units, **kind, name=f"dense{i}")(x))
    logits = nn.Dense(self.num_classes, **kind, name="head")(x)
    (logits,) = at_least_float32(logits)
    return types.ModelOutput(logits, tuple(features), ("stage1", "stage2"))


VARIANTS: dict[str, Callable[..., Model]] = {"lenet5": functools.partial(Model)}
