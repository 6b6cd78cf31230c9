"""A convolution with its batch norm, and the two folded into one.

With running statistics batch norm is one scale and one shift a channel, which
a convolution before it can take over: a network that is frozen runs with half
the layers. A batch norm before its convolution cannot be folded, and stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

EPSILON = 1e-5
HE_NORMAL = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ConvNorm(nn.Module):
  """A convolution without bias, then batch norm.

  Attributes:
    width: output channels.
    stride: in both directions.
    size: the kernel's, odd.
    groups: of channels that see only each other.
    dtype: of the computation; batch statistics are at least float32.
    param_dtype: of the parameters.
    axis: the axis of replicas, None where there is one.
    folded: takes what `fold` made of its variables, and does not train.
  """

  width: int
  stride: int = 1
  size: int = 3
  groups: int = 1
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps (N, H, W, channels) to (N, ⌈H/stride⌉, ⌈W/stride⌉, width)."""
    # Half the kernel, not SAME: with stride 2 on an even size SAME would
    # centre the kernel on the odd pixels, and shortcuts keep the even ones.
    x = nn.Conv(
      self.width,
      (self.size, self.size),
      self.stride,
      padding=self.size // 2,
      feature_group_count=self.groups,
      use_bias=self.folded,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      kernel_init=HE_NORMAL,
      name="conv",
    )(x)
    if self.folded:
      if train:
        raise ValueError("a folded network is frozen, and cannot train")
      return x
    return nn.BatchNorm(
      use_running_average=not train,
      momentum=0.9,
      epsilon=EPSILON,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      axis_name=self.axis if train else None,
      # "Force" would start float64 runs with float32 statistics, whose dtype
      # then changes at the first step.
      force_float32_reductions=jnp.dtype(self.dtype) != jnp.float64,
      name="norm",
    )(x)


def fold(
  params: Mapping[str, Any], batch_stats: Mapping[str, Any], dtype: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
  """The variables of a network whose every `ConvNorm` is folded.

      kernel' = kernel · scale / √(var + ε)
      bias'   = bias - mean · scale / √(var + ε)

  in double precision on the host, whatever jax is set to.

  Args:
    params: of the network, or a part of it.
    batch_stats: of the same.
    dtype: of the folded kernels and biases.

  Returns:
    Params and batch statistics; what is in no `ConvNorm` as it was.
  """
  if set(params) == {"conv", "norm"} and set(batch_stats) == {"norm"}:
    norm, stats = params["norm"], batch_stats["norm"]
    kernel, scale, bias, mean, var = (
      np.asarray(x, np.float64)
      for x in (
        *(params["conv"]["kernel"], norm["scale"], norm["bias"]),
        *(stats["mean"], stats["var"]),
      )
    )
    factor = scale / np.sqrt(var + EPSILON)
    conv = {"kernel": kernel * factor, "bias": bias - mean * factor}
    return {"conv": {k: v.astype(dtype) for k, v in conv.items()}}, {}
  folded, kept = dict(params), dict(batch_stats)
  for name in batch_stats:
    if isinstance(params.get(name), Mapping):
      folded[name], kept[name] = fold(params[name], kept[name], dtype)
      if not kept[name]:
        del kept[name]
  return folded, kept
