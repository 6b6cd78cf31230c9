"""AlexNet in its form for small images, without the large dense layers.

Krizhevsky et al., "ImageNet classification with deep convolutional neural
networks" (2012), in the one-column sizes of Krizhevsky, "One weird trick for
parallelizing convolutional neural networks" (2014). For small images the
kernels are padded and one dense layer is left, as in
github.com/bearpaw/pytorch-classification, models/cifar/alexnet.py (the sizes).
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
from amtml_jax.conv_norm import convolution
from amtml_jax.pooling import halved


class Model(nn.Module):
  """Five convolutions, 2×2 max pooling after the first, second and last.

  The first has 11×11 kernels and stride 4, the second 5×5, the others 3×3. As
  pooling stops at one pixel, images may be of any size.

  Attributes:
    num_classes: C.
    dtype: of the computation.
    param_dtype: of the parameters.
    axis: the axis of replicas; not used, as there is no batch norm.
    widths: the convolutions' channels.
  """

  num_classes: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  widths: tuple[int, int, int, int, int] = (64, 192, 384, 256, 256)

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool = False,
    keys: jax.Array | None = None,
  ) -> types.ModelOutput:
    """Maps normalised images (N, H, W, channels) to logits and features.

    The features are the maps before each pooling, of ⌈H/4⌉, half and a quarter
    as many rows. `train` and `keys` change nothing: there is neither batch norm
    nor dropout.
    """
    del train, keys
    x = x.astype(self.dtype)
    features = []
    for i, width in enumerate(self.widths, start=1):
      stride, size = {1: (4, 11), 2: (1, 5)}.get(i, (1, 3))
      conv = convolution(self, width, stride, size, bias=True, name=f"conv{i}")
      x = nn.relu(conv(x))
      if i in (1, 2, 5):
        features.append(x)
        x = halved(x, nn.max_pool)
    return classify(self, features, x, stem=False)


VARIANTS: dict[str, Callable[..., Model]] = {
  "alexnet": functools.partial(Model),
}
