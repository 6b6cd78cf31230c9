"""What convolutional networks end in: the mean over pixels, a dense layer."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax

from amtml_jax.conv_norm import HE_NORMAL
from amtml_jax.precision import at_least_float32
from amtml_jax.types import ModelOutput


def classify(
  model: nn.Module,
  features: Sequence[jax.Array],
  last: jax.Array | None = None,
  *,
  stem: bool = True,
) -> ModelOutput:
  """A network's output, its logits from the layer `head`.

  Args:
    model: the module that is being called, with `num_classes` and dtypes.
    features: NHWC maps in order of depth.
    last: (N, H, W, channels), what the head sees the mean of; the last
      feature where nothing comes between.
    stem: whether the first feature is the stem's.

  Returns:
    Logits of at least float32 and the features: `stem`, `stage1` and so on.
  """
  last = features[-1] if last is None else last
  head = nn.Dense(
    model.num_classes,
    dtype=model.dtype,
    param_dtype=model.param_dtype,
    kernel_init=HE_NORMAL,
    name="head",
  )
  (logits,) = at_least_float32(head(last.mean((1, 2))))
  stages = tuple(f"stage{i + 1}" for i in range(len(features) - stem))
  names = ("stem", *stages) if stem else stages
  return ModelOutput(logits, tuple(features), names)
