"""A named model with the normalisation it was trained with."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtml_jax import plugins
from amtml_jax.errors import UserError
from amtml_jax.types import ModelOutput

Variables = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Network:
  """A student or a teacher: nothing tells them apart.

  Attributes:
    name: what tables call it.
    variant: what `plugins.network` finds it by.
    model: the linen module.
    mean: per channel, of images in [0, 1].
    std: per channel.
  """

  name: str
  variant: str
  model: nn.Module
  mean: tuple[float, ...]
  std: tuple[float, ...]

  def normalize(self, image: jax.Array) -> jax.Array:
    """`(x - mean) / std` of uint8 images, or of floats in [0, 1]."""
    floating = jnp.promote_types(self.model.param_dtype, jnp.float32)
    scale = 255.0 if image.dtype == jnp.uint8 else 1.0
    mean = jnp.asarray(self.mean, floating).reshape(1, 1, 1, -1)
    std = jnp.asarray(self.std, floating).reshape(1, 1, 1, -1)
    return (image.astype(floating) / scale - mean) / std

  def init(self, key: jax.Array, image_shape: tuple[int, ...]) -> Variables:
    """Fresh parameters and batch statistics, `batch_stats` maybe empty."""
    image = jnp.zeros((1, *image_shape), self.model.param_dtype)
    # Under jit what only the forward pass needs is never computed.
    variables = jax.jit(lambda k: self.model.init(k, image, train=False))(key)
    return {"batch_stats": {}, **variables}

  def predict(self, variables: Variables, image: jax.Array) -> ModelOutput:
    """The output with running statistics: a row depends on no other row."""
    return self.model.apply(variables, self.normalize(image), train=False)

  def train(
    self, variables: Variables, image: jax.Array, keys: jax.Array
  ) -> tuple[ModelOutput, Variables]:
    """The output with batch statistics, and the statistics' new running mean.

    Args:
      variables: `params` and `batch_stats`.
      image: `(N, H, W, channels)`.
      keys: `(N,)` typed keys, one an example, for dropout.
    """
    output, new = self.model.apply(
      variables,
      self.normalize(image),
      train=True,
      keys=keys,
      mutable=["batch_stats"],
    )
    return output, new.get("batch_stats", {})


def split_name(spec: str) -> tuple[str, str]:
  """`label=variant` or plain `variant` -> (label, variant)."""
  label, _, variant = spec.rpartition("=")
  return label or variant, variant


def build(
  spec: str,
  num_classes: int,
  mean: tuple[float, ...],
  std: tuple[float, ...],
  *,
  dtype: str = "float32",
  axis: str | None = None,
) -> Network:
  """The network that a config's `student` or `teachers` names."""
  if jax.dtypes.canonicalize_dtype(dtype) != dtype:
    raise UserError(f"config.dtype={dtype} needs JAX_ENABLE_X64=1")
  name, variant = split_name(spec)
  model = plugins.network(variant)(
    num_classes=num_classes,
    dtype=jnp.dtype(dtype),
    param_dtype=jnp.promote_types(dtype, jnp.float32),
    axis=axis,
  )
  return Network(name, variant, model, tuple(mean), tuple(std))
