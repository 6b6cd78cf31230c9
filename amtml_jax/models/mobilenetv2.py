"""MobileNetV2 in its form for small images.

Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks" (2018),
table 2. For small images the stem and the second row keep the image's size; it
has the parameters of the paper's, as torchvision has them.
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

# Rows of the table (expansion, width, blocks, stride), a stage for each size.
Row = tuple[int, int, int, int]
STAGES: tuple[tuple[Row, ...], ...] = (
  ((1, 16, 1, 1), (6, 24, 2, 1)),
  ((6, 32, 3, 2),),
  ((6, 64, 4, 2), (6, 96, 3, 1)),
  ((6, 160, 3, 2), (6, 320, 1, 1)),
)


class Block(nn.Module):
  """1×1 expanding, 3×3 channel by channel, 1×1 without relu, and a shortcut.

  Attributes:
    width: output channels; where it is the input's and the stride 1, the input
      is added.
    expansion: channels in between, in input channels; 1: nothing expands.
    stride: of the 3×3 convolution.
  """

  width: int
  expansion: int = 6
  stride: int = 1
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps (N, H, W, channels) to (N, ⌈H/stride⌉, ⌈W/stride⌉, width)."""
    conv = functools.partial(ConvNorm, **kind_of(self))
    inner = self.expansion * x.shape[-1]
    y = x
    if self.expansion > 1:
      y = nn.relu6(conv(inner, size=1, name="conv1")(x, train=train))
    depthwise = conv(inner, self.stride, groups=inner, name="conv2")
    y = nn.relu6(depthwise(y, train=train))
    y = conv(self.width, size=1, name="conv3")(y, train=train)
    same = self.stride == 1 and x.shape[-1] == self.width
    return x + y if same else y


class Model(nn.Module):
  """A network of inverted residuals for images of any size.

  Attributes:
    num_classes: C.
    dtype: of the computation; batch statistics are at least float32.
    param_dtype: of the parameters.
    axis: the axis of replicas, None where there is none.
    folded: frozen, with every batch norm folded into its convolution.
    stem: the channels of the first convolution.
    stages: rows of (expansion, width, blocks, stride), by stage.
    last: the channels of the 1×1 convolution that ends the last stage.
  """

  num_classes: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False
  stem: int = 32
  stages: tuple[tuple[Row, ...], ...] = STAGES
  last: int = 1280

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool = False,
    keys: jax.Array | None = None,
  ) -> types.ModelOutput:
    """Maps normalised images (N, H, W, channels) to logits and features.

    The features are `stem` and the last map of each size, that of the last
    stage after the 1×1 convolution that ends it. `keys` is for dropout.
    """
    del keys
    kind = kind_of(self)
    x = x.astype(self.dtype)
    x = nn.relu6(ConvNorm(self.stem, **kind, name="stem")(x, train=train))
    features, build = [x], repeated(Block, self)
    for stage, rows in enumerate(self.stages, start=1):
      block = 0
      for expansion, width, blocks, first in rows:
        for stride in (first, *(1,) * (blocks - 1)):
          block += 1
          name = f"stage{stage}_block{block}"
          part = build(width, expansion, stride, **kind, name=name)
          x = part(x, train=train)
      features.append(x)
    last = ConvNorm(self.last, size=1, **kind, name="last")
    features[-1] = nn.relu6(last(x, train=train))
    return classify(self, features)


VARIANTS: dict[str, Callable[..., Model]] = {
  "mobilenetv2": functools.partial(Model),
}
