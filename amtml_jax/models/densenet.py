"""DenseNet with bottlenecks and compression, in its form for small images.

Huang et al., "Densely connected convolutional networks" (2016). The stem is one
3×3 convolution to 2k channels, k being the growth rate. `densenet121` has four
stages of the paper's table 1, as github.com/kuangliu/pytorch-cifar,
models/densenet.py; `densenet_bc_100_12` is the paper's own for CIFAR: 16 layers
in each of three stages, k = 12.

Every layer has another number of input channels, so that none are alike and
nothing is to be gained from tracing them once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtml_jax import types
from amtml_jax.classify import classify
from amtml_jax.conv_norm import ConvNorm, batch_norm, convolution, kind_of
from amtml_jax.pooling import halved


class Layer(nn.Module):
  """x, and `growth` channels more, of a 1×1 and a 3×3 convolution.

  Folding leaves the norm that begins it, as many layers read what it reads.
  """

  growth: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps (N, H, W, channels) to (N, H, W, channels + growth)."""
    y = nn.relu(batch_norm(self, train=train, name="norm")(x))
    conv = ConvNorm(4 * self.growth, size=1, **kind_of(self), name="conv1")
    y = nn.relu(conv(y, train=train))
    y = convolution(self, self.growth, name="conv2")(y)
    return jnp.concatenate([x, y], axis=-1)


class Model(nn.Module):
  """A DenseNet for images of any size.

  Attributes:
    num_classes: C.
    dtype: of the computation; batch statistics are at least float32.
    param_dtype: of the parameters.
    axis: the axis of replicas, None where there is none.
    folded: frozen, with each batch norm that follows a convolution folded into
      it.
    layers: how many each stage has.
    growth: k, the channels that a layer adds.
  """

  num_classes: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False
  layers: tuple[int, ...] = (6, 12, 24, 16)
  growth: int = 32

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool = False,
    keys: jax.Array | None = None,
  ) -> types.ModelOutput:
    """Maps normalised images (N, H, W, channels) to logits and features.

    The features are `stem` and all that each stage has gathered, before the
    transition, which halves channels, height and width (not below one pixel).
    `keys` is for networks with dropout.
    """
    del keys
    x = x.astype(self.dtype)
    x = convolution(self, 2 * self.growth, name="stem")(x)
    features = [x]
    for stage, layers in enumerate(self.layers, start=1):
      if stage > 1:
        name = f"transition{stage - 1}"
        x = nn.relu(batch_norm(self, train=train, name=f"{name}_norm")(x))
        # Pooled first: it commutes with a 1×1 convolution, a quarter the work.
        x = halved(x, nn.avg_pool)
        x = convolution(self, x.shape[-1] // 2, size=1, name=f"{name}_conv")(x)
      for i in range(1, layers + 1):
        name = f"stage{stage}_layer{i}"
        x = Layer(self.growth, **kind_of(self), name=name)(x, train=train)
      features.append(x)
    x = nn.relu(batch_norm(self, train=train, name="norm")(x))
    return classify(self, features, x)


VARIANTS: dict[str, Callable[..., Model]] = {
  "densenet121": functools.partial(Model),
  "densenet_bc_100_12": functools.partial(
    Model, layers=(16, 16, 16), growth=12
  ),
}
