"""GoogLeNet in its form for small images, with batch norm.

Szegedy et al., "Going deeper with convolutions" (2014), table 1. The stem is
one 3×3 convolution, the 5×5 convolutions are two of 3×3, there are no auxiliary
heads, and convolutions have biases, as in github.com/kuangliu/pytorch-cifar,
models/googlenet.py (the sizes).
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
from amtml_jax.conv_norm import ConvNorm, kind_of

# Channels of an inception: 1×1; before and of 3×3; before and of 5×5; pooled.
Widths = tuple[int, int, int, int, int, int]
STAGES: tuple[tuple[Widths, ...], ...] = (
  (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
  ),
  (
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
  ),
  (
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
  ),
)


def pooled(x: jax.Array, stride: int) -> jax.Array:
  """3×3 max pooling to ⌈H/stride⌉×⌈W/stride⌉ pixels."""
  return nn.max_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)))


class Inception(nn.Module):
  """Four branches side by side: 1×1, 3×3, 5×5 (as two 3×3), and pooled."""

  widths: Widths
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps (N, H, W, channels) to (N, H, W, the four branches' widths)."""

    def conv(x: jax.Array, width: int, size: int, name: str) -> jax.Array:
      layer = ConvNorm(width, size=size, bias=True, **kind_of(self), name=name)
      return nn.relu(layer(x, train=train))

    one, before3, three, before5, five, pool = self.widths
    branch1 = conv(x, one, 1, "one")
    branch2 = conv(conv(x, before3, 1, "three1"), three, 3, "three2")
    branch3 = conv(conv(x, before5, 1, "five1"), five, 3, "five2")
    branch3 = conv(branch3, five, 3, "five3")
    branch4 = conv(pooled(x, 1), pool, 1, "pool")
    return jnp.concatenate([branch1, branch2, branch3, branch4], axis=-1)


class Model(nn.Module):
  """A network of inceptions for images of any size.

  Attributes:
    num_classes: C.
    dtype: of the computation; batch statistics are at least float32.
    param_dtype: of the parameters.
    axis: the axis of replicas, None where there is none.
    folded: frozen, with every batch norm folded into its convolution.
    stem: the channels of the first convolution.
    stages: the widths of each stage's inceptions.
  """

  num_classes: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False
  stem: int = 192
  stages: tuple[tuple[Widths, ...], ...] = STAGES

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool = False,
    keys: jax.Array | None = None,
  ) -> types.ModelOutput:
    """Maps normalised images (N, H, W, channels) to logits and features.

    The features are `stem` and each stage's last map, before the 3×3 max
    pooling of stride 2 that leads to the next. `keys` is for dropout.
    """
    del keys
    kind = kind_of(self)
    x = ConvNorm(self.stem, bias=True, **kind, name="stem")(
      x.astype(self.dtype), train=train
    )
    x = nn.relu(x)
    features = [x]
    # No two inceptions are alike, so none are traced once for several.
    for stage, inceptions in enumerate(self.stages, start=1):
      x = x if stage == 1 else pooled(x, 2)
      for i, widths in enumerate(inceptions, start=1):
        name = f"stage{stage}_block{i}"
        x = Inception(widths, **kind, name=name)(x, train=train)
      features.append(x)
    return classify(self, features)


VARIANTS: dict[str, Callable[..., Model]] = {
  "googlenet": functools.partial(Model),
}
