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


def kind_of(module: nn.Module) -> dict[str, Any]:
  """What a part is built with that is the same in all of a network."""
  names = ("dtype", "param_dtype", "axis", "folded")
  return {name: getattr(module, name) for name in names}


def convolution(
  within: nn.Module,
  width: int,
  stride: int = 1,
  size: int = 3,
  groups: int = 1,
  *,
  bias: bool = False,
  name: str,
) -> nn.Conv:
  """A convolution to ⌈H/stride⌉×⌈W/stride⌉ pixels, of its module's dtypes.

  Args:
    within: the module that is being called.
    width: output channels.
    stride: in both directions.
    size: the kernel's, odd.
    groups: of channels that see only each other.
    bias: whether there is one.
    name: of the parameters.
  """
  # Half the kernel, not SAME: with stride 2 on an even size SAME would centre
  # the kernel on the odd pixels, and shortcuts keep the even ones.
  return nn.Conv(
    width,
    (size, size),
    stride,
    padding=size // 2,
    feature_group_count=groups,
    use_bias=bias,
    dtype=within.dtype,
    param_dtype=within.param_dtype,
    kernel_init=HE_NORMAL,
    name=name,
  )


def batch_norm(within: nn.Module, *, train: bool, name: str) -> nn.BatchNorm:
  """Batch norm over the module's axis of replicas, of its dtypes."""
  return nn.BatchNorm(
    use_running_average=not train,
    momentum=0.9,
    epsilon=EPSILON,
    dtype=within.dtype,
    param_dtype=within.param_dtype,
    axis_name=within.axis if train else None,
    # "Force" would start float64 runs with float32 statistics, whose dtype
    # then changes at the first step.
    force_float32_reductions=jnp.dtype(within.dtype) != jnp.float64,
    name=name,
  )


class ConvNorm(nn.Module):
  """A convolution, then batch norm.

  Attributes:
    width: output channels.
    stride: in both directions.
    size: the kernel's, odd.
    groups: of channels that see only each other.
    bias: of the convolution. The norm takes it away again, but some networks
      have it, and it counts among their parameters.
    dtype: of the computation; batch statistics are at least float32.
    param_dtype: of the parameters.
    axis: the axis of replicas, None where there is one.
    folded: takes what `fold` made of its variables, and does not train.
  """

  width: int
  stride: int = 1
  size: int = 3
  groups: int = 1
  bias: bool = False
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  axis: str | None = None
  folded: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps (N, H, W, channels) to (N, ⌈H/stride⌉, ⌈W/stride⌉, width)."""
    shape = (self.width, self.stride, self.size, self.groups)
    bias = self.bias or self.folded
    x = convolution(self, *shape, bias=bias, name="conv")(x)
    if self.folded:
      if train:
        raise ValueError("a folded network is frozen, and cannot train")
      return x
    return batch_norm(self, train=train, name="norm")(x)


def fold(
  params: Mapping[str, Any], batch_stats: Mapping[str, Any], dtype: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
  """The variables of a network whose every `ConvNorm` is folded.

      kernel' = kernel · scale / √(var + ε)
      bias'   = bias + (b - mean) · scale / √(var + ε)

  with b the convolution's own bias, mostly none, in double precision on the
  host, whatever jax is set to.

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
    mean = mean - np.asarray(params["conv"].get("bias", 0.0), np.float64)
    conv = {"kernel": kernel * factor, "bias": bias - mean * factor}
    return {"conv": {k: v.astype(dtype) for k, v in conv.items()}}, {}
  folded, kept = dict(params), dict(batch_stats)
  for name in batch_stats:
    if isinstance(params.get(name), Mapping):
      folded[name], kept[name] = fold(params[name], kept[name], dtype)
      if not kept[name]:
        del kept[name]
  return folded, kept
