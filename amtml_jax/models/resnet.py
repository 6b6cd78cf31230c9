"""Residual networks for small images: ResNet-8 to ResNet-110, and slim ones.

He et al., "Deep residual learning for image recognition" (2015), section 4.2:
depth 6n + 2, that is three stages of n two-convolution blocks, the first at the
image's size and the others at half the size of the one before. The slim form
halves every width.
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
from amtml_jax.errors import UserError
from amtml_jax.repeated import repeated

WIDTHS = (16, 32, 64)
SLIM_WIDTHS = (8, 16, 32)


def shortcut(x: jax.Array, width: int, stride: int) -> jax.Array:
  """The parameter-free shortcut, option A of the paper.

  Keeps every `stride`-th pixel from the first one on, and puts the channels
  into the middle of `width`: the zeros are split evenly before and after them,
  an odd one going after. (The paper does not say where the zeros go; this is
  the usual choice of the CIFAR re-implementations.)
  """
  extra = width - x.shape[-1]
  before = extra // 2
  pad = ((0, 0), (0, 0), (0, 0), (before, extra - before))
  return jnp.pad(x[:, ::stride, ::stride], pad)


class Block(nn.Module):
  """relu(shortcut(x) + two convolutions of x)."""

  width: int
  stride: int = 1
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps (N, H, W, channels) to (N, ⌈H/stride⌉, ⌈W/stride⌉, width)."""
    conv = functools.partial(ConvNorm, **kind_of(self))
    y = nn.relu(conv(self.width, self.stride, name="first")(x, train=train))
    y = conv(self.width, name="second")(y, train=train)
    return nn.relu(shortcut(x, self.width, self.stride) + y)


class Model(nn.Module):
  """A residual network for images of 4×4 pixels and more.

  Attributes:
    num_classes: C.
    dtype: of the computation; batch statistics are at least float32.
    param_dtype: of the parameters.
    axis: the axis of replicas, over which training's batch statistics are
      taken; None where there is none.
    folded: frozen, with every batch norm folded into its convolution.
    depth: 6n + 2.
    widths: the stages' channels.
  """

  num_classes: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False
  depth: int = 20
  widths: tuple[int, ...] = WIDTHS

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool = False,
    keys: jax.Array | None = None,
  ) -> types.ModelOutput:
    """Maps normalised images (N, H, W, channels) to logits and features.

    The features are `stem` and the maps after each stage's last relu. `keys`
    is for networks with dropout; this one has none.
    """
    del keys
    blocks, rest = divmod(self.depth - 2, 6)
    if rest or blocks < 1:
      raise UserError(f"the depth of a ResNet is 6n + 2, not {self.depth}")
    kind = kind_of(self)
    x = x.astype(self.dtype)
    x = nn.relu(ConvNorm(self.widths[0], **kind, name="stem")(x, train=train))
    features, build = [x], repeated(Block, self)
    for stage, width in enumerate(self.widths, start=1):
      for block in range(1, blocks + 1):
        stride = 2 if stage > 1 and block == 1 else 1
        name = f"stage{stage}_block{block}"
        x = build(width, stride, **kind, name=name)(x, train=train)
      features.append(x)
    return classify(self, features)


VARIANTS: dict[str, Callable[..., Model]] = {
  f"resnet{depth}{suffix}": functools.partial(Model, depth=depth, widths=widths)
  for suffix, widths in (("", WIDTHS), ("_slim", SLIM_WIDTHS))
  for depth in (8, 14, 20, 32, 44, 56, 110)
}
