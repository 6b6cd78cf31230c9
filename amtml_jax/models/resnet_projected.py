"""Residual networks with projection shortcuts: ResNet-18 to -101, ResNeXt-29.

He et al., "Deep residual learning for image recognition" (2015), table 1 and
option B: where its map changes shape, a shortcut is a 1×1 convolution. Blocks
of three convolutions have their stride in the 3×3 one, as in torchvision.

- `resnetN_imagenet` begin with a 7×7 convolution and a max pooling, both of
  stride 2. `resnetN` are for small images and begin with one 3×3 convolution,
  as in github.com/kuangliu/pytorch-cifar, models/resnet.py.
- `resnetNx4` are 6n + 2 layers deep and four times as wide as `resnetN` but for
  the stem, twice as wide: Tian et al., "Contrastive representation
  distillation" (2019), github.com/HobbitLong/RepDistiller, models/resnet.py.
- `resnext29_GxWd` have 3×3 convolutions of G groups, W channels each in the
  first stage: Xie et al., "Aggregated residual transformations for deep neural
  networks" (2016). The sizes, a 1×1 convolution at the beginning among them,
  are those of github.com/kuangliu/pytorch-cifar, models/resnext.py.
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
  """relu(shortcut(x) + two or three convolutions of x).

  Attributes:
    width: output channels.
    stride: of the first 3×3 convolution.
    inner: channels between the 1×1 convolutions of a block of three; 0 where
      the block has two 3×3 convolutions.
    groups: of the 3×3 convolution between the 1×1 ones.
  """

  width: int
  stride: int = 1
  inner: int = 0
  groups: int = 1
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps (N, H, W, channels) to (N, ⌈H/stride⌉, ⌈W/stride⌉, width)."""
    conv = functools.partial(ConvNorm, **kind_of(self))
    # Width, stride, size and groups of each.
    layers = ((self.width, self.stride, 3, 1), (self.width, 1, 3, 1))
    if self.inner:
      layers = (
        (self.inner, 1, 1, 1),
        (self.inner, self.stride, 3, self.groups),
        (self.width, 1, 1, 1),
      )
    y = x
    for i, layer in enumerate(layers, start=1):
      y = conv(*layer, name=f"conv{i}")(y, train=train)
      y = y if i == len(layers) else nn.relu(y)
    if self.stride != 1 or x.shape[-1] != self.width:
      x = conv(self.width, self.stride, 1, name="shortcut")(x, train=train)
    return nn.relu(x + y)


class Model(nn.Module):
  """A residual network for images of any size.

  Attributes:
    num_classes: C.
    dtype: of the computation; batch statistics are at least float32.
    param_dtype: of the parameters.
    axis: the axis of replicas, None where there is none.
    folded: frozen, with every batch norm folded into its convolution.
    blocks: how many each stage has.
    widths: the stages' channels.
    inner: the stages' channels between 1×1 convolutions; empty for blocks of
      two 3×3 convolutions.
    groups: of the convolutions between 1×1 ones.
    stem: the channels of the first convolution.
    stem_size: its kernel's; one of 7 has stride 2 and a max pooling after it.
  """

  num_classes: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False
  blocks: tuple[int, ...] = (2, 2, 2, 2)
  widths: tuple[int, ...] = (64, 128, 256, 512)
  inner: tuple[int, ...] = ()
  groups: int = 1
  stem: int = 64
  stem_size: int = 3

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool = False,
    keys: jax.Array | None = None,
  ) -> types.ModelOutput:
    """Maps normalised images (N, H, W, channels) to logits and features.

    The features are `stem`, after its pooling if it has one, and the maps after
    each stage's last relu: the first stage has the stem's height and width,
    each of the others half of those before. `keys` is for dropout.
    """
    del keys
    kind, large = kind_of(self), self.stem_size == 7
    x = x.astype(self.dtype)
    stem = (self.stem, 2 if large else 1, self.stem_size)
    x = nn.relu(ConvNorm(*stem, **kind, name="stem")(x, train=train))
    if large:
      x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    features, build = [x], repeated(Block, self)
    inner = self.inner or (0,) * len(self.widths)
    stages = zip(self.blocks, self.widths, inner, strict=True)
    for stage, (blocks, width, between) in enumerate(stages, start=1):
      for block in range(1, blocks + 1):
        stride = 2 if stage > 1 and block == 1 else 1
        shape = (width, stride, between, self.groups)
        name = f"stage{stage}_block{block}"
        x = build(*shape, **kind, name=name)(x, train=train)
      features.append(x)
    return classify(self, features)


# Of three convolutions, the last four times as wide as the others.
DEEP = {"widths": (256, 512, 1024, 2048), "inner": (64, 128, 256, 512)}
SIZES: dict[int, dict[str, Any]] = {
  18: {"blocks": (2, 2, 2, 2)},
  34: {"blocks": (3, 4, 6, 3)},
  50: {"blocks": (3, 4, 6, 3), **DEEP},
  101: {"blocks": (3, 4, 23, 3), **DEEP},
}

VARIANTS: dict[str, Callable[..., Model]] = {
  **{
    f"resnet{depth}{suffix}": functools.partial(Model, stem_size=size, **sizes)
    for suffix, size in (("", 3), ("_imagenet", 7))
    for depth, sizes in SIZES.items()
  },
  **{
    f"resnet{6 * n + 2}x4": functools.partial(
      Model, blocks=(n, n, n), widths=(64, 128, 256), stem=32
    )
    for n in (1, 5)
  },
  **{
    f"resnext29_{groups}x64d": functools.partial(
      Model,
      blocks=(3, 3, 3),
      widths=tuple(128 * groups << i for i in range(3)),
      inner=tuple(64 * groups << i for i in range(3)),
      groups=groups,
      stem_size=1,
    )
    for groups in (2, 4)
  },
}
