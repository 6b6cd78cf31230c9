"""A user's own network: two stages with batch norm and dropout."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from amtml_jax.dropout import ExampleDropout
from amtml_jax.precision import at_least_float32
from amtml_jax.types import ModelOutput


class Model(nn.Module):
  num_classes: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None

  @nn.compact
  def __call__(self, x, *, train=False, keys=None):
    kind = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    features = []
    for width in (4, 6):
      x = nn.Conv(width, (3, 3), strides=2, use_bias=False, **kind)(
        x.astype(self.dtype)
      )
      x = nn.BatchNorm(
        not train,
        momentum=0.9,
        axis_name=self.axis if train else None,
        force_float32_reductions=self.dtype != jnp.float64,
        **kind,
      )(x)
      x = nn.tanh(x)
      features.append(x)
    x = ExampleDropout(0.25, site=1)(
      jnp.mean(x, (1, 2)), train=train, keys=keys
    )
    (logits,) = at_least_float32(nn.Dense(self.num_classes, **kind)(x))
    return ModelOutput(logits, tuple(features), ("stage1", "stage2"))
