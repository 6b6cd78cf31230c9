"""VGG with batch norm, in its form for small images.

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image
recognition" (2014), table 1, columns A, B, D and E. The dense layers are one,
on the mean over the pixels left, and convolutions have biases, as in
github.com/kuangliu/pytorch-cifar, models/vgg.py (the sizes).
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
from amtml_jax.pooling import halved

# How many convolutions a stage has.
CONVOLUTIONS = {
  11: (1, 1, 2, 2, 2),
  13: (2, 2, 2, 2, 2),
  16: (2, 2, 3, 3, 3),
  19: (2, 2, 4, 4, 4),
}


class Model(nn.Module):
  """Stages of 3×3 convolutions and 2×2 max pooling, which stops at one pixel.

  Attributes:
    num_classes: C.
    dtype: of the computation; batch statistics are at least float32.
    param_dtype: of the parameters.
    axis: the axis of replicas, None where there is none.
    folded: frozen, with every batch norm folded into its convolution.
    convolutions: of each stage.
    widths: the stages' channels.
  """

  num_classes: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False
  convolutions: tuple[int, ...] = CONVOLUTIONS[16]
  widths: tuple[int, ...] = (64, 128, 256, 512, 512)

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool = False,
    keys: jax.Array | None = None,
  ) -> types.ModelOutput:
    """Maps normalised images (N, H, W, channels) to logits and features.

    The features are the stages' maps before pooling, of H×W, then ⌊H/2⌋×⌊W/2⌋
    pixels and so on; there is no stem. `keys` is for networks with dropout.
    """
    del keys
    conv = functools.partial(ConvNorm, bias=True, **kind_of(self))
    x = x.astype(self.dtype)
    features = []
    stages = zip(self.convolutions, self.widths, strict=True)
    for stage, (count, width) in enumerate(stages, start=1):
      for i in range(1, count + 1):
        name = f"stage{stage}_conv{i}"
        x = nn.relu(conv(width, name=name)(x, train=train))
      features.append(x)
      x = halved(x, nn.max_pool)
    return classify(self, features, x, stem=False)


VARIANTS: dict[str, Callable[..., Model]] = {
  f"vgg{depth}": functools.partial(Model, convolutions=convolutions)
  for depth, convolutions in CONVOLUTIONS.items()
}
