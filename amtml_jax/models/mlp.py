"""Fully connected networks, the authors' (models/student/fcnet.py) among them.

A dense net has no convolutional stages: its hidden layers stand for them, each
a map of one pixel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtml_jax import types
from amtml_jax.dropout import ExampleDropout
from amtml_jax.errors import UserError
from amtml_jax.precision import at_least_float32

HE_NORMAL = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Model(nn.Module):
  """Dense layers with rectifiers and dropout on images of any size.

  Attributes:
    num_classes: C.
    dtype: of the computation.
    param_dtype: of the parameters.
    axis: the axis of replicas; not used, as there is no batch norm.
    hidden: the hidden layers' units, at least one layer.
    dropout: the share of hidden units dropped in training; 0.8 in the authors'
      network.
  """

  num_classes: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  hidden: tuple[int, ...] = (1200, 1200)
  dropout: float = 0.0

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool = False,
    keys: jax.Array | None = None,
  ) -> types.ModelOutput:
    """Maps normalised images (N, H, W, channels) to logits and features.

    The features are the hidden layers (N, 1, 1, d) after the rectifier and
    before dropout: hints and the adapter see what the layer says, not the
    noise. `keys` (N,), one an example, are needed to train with dropout.
    """
    if not self.hidden:
      raise UserError("a dense net needs at least one hidden layer")
    kind = {
      "dtype": self.dtype,
      "param_dtype": self.param_dtype,
      "kernel_init": HE_NORMAL,
    }
    x = x.astype(self.dtype).reshape(x.shape[0], -1)
    features = []
    for i, units in enumerate(self.hidden, start=1):
      x = nn.relu(nn.Dense(units, **kind, name=f"dense{i}")(x))
      features.append(x[:, None, None, :])
      x = ExampleDropout(self.dropout, site=i)(x, keys, train=train)
    logits = nn.Dense(self.num_classes, **kind, name="head")(x)
    names = tuple(f"stage{i}" for i in range(1, len(features) + 1))
    (logits,) = at_least_float32(logits)
    return types.ModelOutput(logits, tuple(features), names)


VARIANTS: dict[str, Callable[..., Model]] = {
  "mlp": functools.partial(Model, hidden=(1200, 1200), dropout=0.8),
  "mlp_small": functools.partial(Model, hidden=(64, 64)),
}
