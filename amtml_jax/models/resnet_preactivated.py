"""Pre-activation residual networks, the wide ones among them.

He et al., "Identity mappings in deep residual networks" (2016): batch norm and
relu come before their convolution, and nothing after the sum. Where its map
changes shape, a shortcut is a 1×1 convolution of what the first relu gives.

- `preact_resnetN` have the stages of ResNet-N, and no norm before the head, as
  in github.com/kuangliu/pytorch-cifar, models/preact_resnet.py.
- `wrnD_K` are D = 6n + 4 layers deep and K times as wide as a ResNet for small
  images: Zagoruyko and Komodakis, "Wide residual networks" (2016), without
  dropout, as in github.com/HobbitLong/RepDistiller, models/wrn.py.

The norm that begins a block follows a sum: folding leaves it and takes those
between two convolutions.
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
from amtml_jax.repeated import repeated


class Block(nn.Module):
  """shortcut + two or three convolutions of relu(norm(x)).

  Attributes:
    width: output channels.
    stride: of the first 3×3 convolution.
    inner: channels between the 1×1 convolutions of a block of three; 0 where
      the block has two 3×3 convolutions.
  """

  width: int
  stride: int = 1
  inner: int = 0
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps (N, H, W, channels) to (N, ⌈H/stride⌉, ⌈W/stride⌉, width)."""
    conv = functools.partial(ConvNorm, **kind_of(self))
    y = nn.relu(batch_norm(self, train=train, name="norm")(x))
    if self.stride != 1 or x.shape[-1] != self.width:
      shape = (self.width, self.stride, 1)
      x = convolution(self, *shape, name="shortcut")(y)
    # Width, stride and size of all but the last, each with the norm after it.
    layers, size = ((self.width, self.stride, 3),), 3
    if self.inner:
      layers, size = ((self.inner, 1, 1), (self.inner, self.stride, 3)), 1
    for i, layer in enumerate(layers, start=1):
      y = nn.relu(conv(*layer, name=f"conv{i}")(y, train=train))
    return x + convolution(self, self.width, size=size, name="last")(y)


class Model(nn.Module):
  """A pre-activation residual network for images of any size.

  Attributes:
    num_classes: C.
    dtype: of the computation; batch statistics are at least float32.
    param_dtype: of the parameters.
    axis: the axis of replicas, None where there is none.
    folded: frozen, with each batch norm that follows a convolution folded into
      it.
    blocks: how many each stage has.
    widths: the stages' channels.
    inner: the stages' channels between 1×1 convolutions; empty for blocks of
      two 3×3 convolutions.
    stem: the channels of the first convolution.
    last_norm: whether batch norm and relu come before the head.
  """

  num_classes: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False
  blocks: tuple[int, ...] = (2, 2, 2, 2)
  widths: tuple[int, ...] = (64, 128, 256, 512)
  inner: tuple[int, ...] = ()
  stem: int = 64
  last_norm: bool = False

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool = False,
    keys: jax.Array | None = None,
  ) -> types.ModelOutput:
    """Maps normalised images (N, H, W, channels) to logits and features.

    The features are `stem` and the sums that end each stage, before any norm:
    the first stage has the image's height and width, each of the others half of
    those before. `keys` is for networks with dropout.
    """
    del keys
    x = x.astype(self.dtype)
    x = convolution(self, self.stem, name="stem")(x)
    features, build = [x], repeated(Block, self)
    inner = self.inner or (0,) * len(self.widths)
    stages = zip(self.blocks, self.widths, inner, strict=True)
    for stage, (blocks, width, between) in enumerate(stages, start=1):
      for block in range(1, blocks + 1):
        stride = 2 if stage > 1 and block == 1 else 1
        name = f"stage{stage}_block{block}"
        part = build(width, stride, between, **kind_of(self), name=name)
        x = part(x, train=train)
      features.append(x)
    if self.last_norm:
      x = nn.relu(batch_norm(self, train=train, name="norm")(x))
    return classify(self, features, x)


VARIANTS: dict[str, Callable[..., Model]] = {
  "preact_resnet18": functools.partial(Model),
  "preact_resnet50": functools.partial(
    Model,
    blocks=(3, 4, 6, 3),
    widths=(256, 512, 1024, 2048),
    inner=(64, 128, 256, 512),
  ),
  **{
    f"wrn{6 * n + 4}_{k}": functools.partial(
      Model,
      blocks=(n, n, n),
      widths=(16 * k, 32 * k, 64 * k),
      stem=16,
      last_norm=True,
    )
    for n, k in ((2, 2), (4, 2), (6, 2), (4, 4))
  },
}
