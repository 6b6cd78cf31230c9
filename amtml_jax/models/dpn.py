"""Dual path networks: residual channels, and dense ones that grow.

Chen et al., "Dual path networks" (2017). DPN-26 is the small member of
github.com/kuangliu/pytorch-cifar, models/dpn.py (the sizes): two blocks a
stage, a 3×3 convolution as stem, norms after convolutions.
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


class Block(nn.Module):
  """relu of a sum in the first `width` channels; the others side by side.

  Attributes:
    width: of the residual path.
    dense: channels that the dense path grows by.
    inner: channels between the 1×1 convolutions.
    stride: of the 3×3 convolution.
    groups: of the 3×3 convolution.
    projected: whether the shortcut is a convolution, as in a stage's first.
  """

  width: int
  dense: int
  inner: int
  stride: int = 1
  groups: int = 32
  projected: bool = False
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps (N, H, W, c) to (N, ⌈H/stride⌉, ⌈W/stride⌉, c' + dense).

    c' is c, or width + dense where the shortcut is projected.
    """
    conv = functools.partial(ConvNorm, **kind_of(self))
    out = self.width + self.dense
    y = nn.relu(conv(self.inner, size=1, name="conv1")(x, train=train))
    layer = conv(self.inner, self.stride, groups=self.groups, name="conv2")
    y = nn.relu(layer(y, train=train))
    y = conv(out, size=1, name="conv3")(y, train=train)
    if self.projected:
      x = conv(out, self.stride, 1, name="shortcut")(x, train=train)
    d = self.width
    parts = [x[..., :d] + y[..., :d], x[..., d:], y[..., d:]]
    return nn.relu(jnp.concatenate(parts, axis=-1))


class Model(nn.Module):
  """A dual path network for images of any size.

  Attributes:
    num_classes: C.
    dtype: of the computation; batch statistics are at least float32.
    param_dtype: of the parameters.
    axis: the axis of replicas, None where there is none.
    folded: frozen, with every batch norm folded into its convolution.
    blocks: how many each stage has.
    widths: of the stages' residual paths.
    dense: what a block of each stage adds to the dense path.
    inner: the stages' channels between 1×1 convolutions.
    groups: of the convolutions between 1×1 ones.
    stem: the channels of the first convolution.
  """

  num_classes: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False
  blocks: tuple[int, ...] = (2, 2, 2, 2)
  widths: tuple[int, ...] = (256, 512, 1024, 2048)
  dense: tuple[int, ...] = (16, 32, 24, 128)
  inner: tuple[int, ...] = (96, 192, 384, 768)
  groups: int = 32
  stem: int = 64

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool = False,
    keys: jax.Array | None = None,
  ) -> types.ModelOutput:
    """Maps normalised images (N, H, W, channels) to logits and features.

    The features are `stem` and the maps after each stage's last relu, both
    paths in one: a stage of n blocks ends with width + (n + 1)·dense channels.
    `keys` is for networks with dropout.
    """
    del keys
    kind = kind_of(self)
    x = x.astype(self.dtype)
    x = nn.relu(ConvNorm(self.stem, **kind, name="stem")(x, train=train))
    features, build = [x], repeated(Block, self)
    stages = zip(self.blocks, self.widths, self.dense, self.inner, strict=True)
    for stage, (blocks, *shape) in enumerate(stages, start=1):
      for block in range(1, blocks + 1):
        first = block == 1
        part = build(
          *shape,
          stride=2 if stage > 1 and first else 1,
          groups=self.groups,
          projected=first,
          **kind,
          name=f"stage{stage}_block{block}",
        )
        x = part(x, train=train)
      features.append(x)
    return classify(self, features)


VARIANTS: dict[str, Callable[..., Model]] = {
  "dpn26": functools.partial(Model),
}
