"""ShuffleNetV2 in its form for small images, one time as wide.

Ma et al., "ShuffleNet V2: practical guidelines for efficient CNN architecture
design" (2018), table 5. For small images the stem keeps the image's size, as in
github.com/kuangliu/pytorch-cifar, models/shufflenetv2.py (the sizes).
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
from amtml_jax.repeated import repeated


def shuffled(a: jax.Array, b: jax.Array) -> jax.Array:
  """Channels of two (N, H, W, c) by turns: a0, b0, a1, b1 and so on."""
  return jnp.stack([a, b], axis=-1).reshape(*a.shape[:3], -1)


class Block(nn.Module):
  """Two halves of the channels, one or both convolved, then shuffled.

  A block that keeps the size hands one half of its input on as it is. One that
  halves the size convolves all of its input twice.

  Attributes:
    width: output channels, even; those of the input where the size is kept.
    stride: 1, or 2 to halve the size.
  """

  width: int
  stride: int = 1
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps (N, H, W, channels) to (N, ⌈H/stride⌉, ⌈W/stride⌉, width)."""

    def conv(x: jax.Array, width: int, name: str) -> jax.Array:
      layer = ConvNorm(width, size=1, **kind_of(self), name=name)
      return nn.relu(layer(x, train=train))

    def depthwise(x: jax.Array, name: str) -> jax.Array:
      width = x.shape[-1]
      shape = {"stride": self.stride, "groups": width}
      layer = ConvNorm(width, **shape, **kind_of(self), name=name)
      return layer(x, train=train)

    half = self.width // 2
    if self.stride == 1:
      kept, y = x[..., :half], x[..., half:]
    else:
      kept, y = conv(depthwise(x, "left1"), half, "left2"), x
    y = depthwise(conv(y, half, "right1"), "right2")
    return shuffled(kept, conv(y, half, "right3"))


class Model(nn.Module):
  """A network of shuffled blocks for images of any size.

  Attributes:
    num_classes: C.
    dtype: of the computation; batch statistics are at least float32.
    param_dtype: of the parameters.
    axis: the axis of replicas, None where there is none.
    folded: frozen, with every batch norm folded into its convolution.
    stem: the channels of the first convolution.
    blocks: how many each stage has, the one that halves the size among them.
    widths: the stages' channels, even.
    last: the channels of the 1×1 convolution that ends the last stage.
  """

  num_classes: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False
  stem: int = 24
  blocks: tuple[int, ...] = (4, 8, 4)
  widths: tuple[int, ...] = (116, 232, 464)
  last: int = 1024

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool = False,
    keys: jax.Array | None = None,
  ) -> types.ModelOutput:
    """Maps normalised images (N, H, W, channels) to logits and features.

    The features are `stem` and each stage's last map, of half the height and
    width of the one before, that of the last stage after the 1×1 convolution
    that ends it. `keys` is for networks with dropout.
    """
    del keys
    kind = kind_of(self)
    x = x.astype(self.dtype)
    x = nn.relu(ConvNorm(self.stem, **kind, name="stem")(x, train=train))
    features, build = [x], repeated(Block, self)
    stages = zip(self.blocks, self.widths, strict=True)
    for stage, (blocks, width) in enumerate(stages, start=1):
      for block in range(1, blocks + 1):
        stride = 2 if block == 1 else 1
        name = f"stage{stage}_block{block}"
        x = build(width, stride, **kind, name=name)(x, train=train)
      features.append(x)
    last = ConvNorm(self.last, size=1, **kind, name="last")
    features[-1] = nn.relu(last(x, train=train))
    return classify(self, features)


VARIANTS: dict[str, Callable[..., Model]] = {
  "shufflenetv2": functools.partial(Model),
}
