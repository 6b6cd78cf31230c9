"""A named model with the normalisation it was trained with."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtml_jax import conv_norm, plugins
from amtml_jax.errors import UserError
from amtml_jax.repeated import SHAPES_ALONE
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
    init_std: 0, or s > 0 to start convolutions at N(0, s²) and batch norms'
      scales at N(1, s²), as the authors' notebooks do with the student.
  """

  name: str
  variant: str
  model: nn.Module
  mean: tuple[float, ...]
  std: tuple[float, ...]
  init_std: float = 0.0

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
    variables = {"batch_stats": {}, **variables}
    if self.init_std:
      params = redrawn(variables["params"], key, self.init_std)
      variables = {**variables, "params": params}
    return variables

  def shapes(
    self, image_shape: tuple[int, ...]
  ) -> tuple[ModelOutput, Variables]:
    """Those of `predict` of two images, and of what `init` gives."""
    # What has no dtype of its own follows the switch.
    x64 = jax.config.jax_enable_x64
    return _shapes(self.model, tuple(image_shape), x64)

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

  def folded(self, variables: Variables) -> tuple[Network, Variables]:
    """Itself for prediction alone, batch norm folded into its convolutions.

    A network of a user's own that has no attribute `folded` stays as it is.

    Args:
      variables: unfolded, of `init`'s structure; not changed.

    Returns:
      A network of the same outputs within rounding, and its variables.
    """
    if getattr(self.model, "folded", True):
      return self, variables
    params, batch_stats = conv_norm.fold(
      variables["params"], variables["batch_stats"], self.model.param_dtype
    )
    network = dataclasses.replace(self, model=self.model.clone(folded=True))
    return network, {"params": params, "batch_stats": batch_stats}


def redrawn(params: Any, key: jax.Array, std: float) -> Any:
  """Convolutions from N(0, std²), scales from N(1, std²), the rest as it is.

  What the authors' `weights_init_normal` does: it means dense layers too, but
  looks for `linear` where PyTorch's class is called `Linear`.
  """
  leaves, tree = jax.tree_util.tree_flatten_with_path(params)
  fresh = []
  for i, (path, leaf) in enumerate(leaves):
    name = getattr(path[-1], "key", None)
    convolution = name == "kernel" and leaf.ndim == 4
    if convolution or name == "scale":
      mean = 0.0 if convolution else 1.0
      drawn = jax.random.normal(jax.random.fold_in(key, i), leaf.shape)
      leaf = (mean + std * drawn).astype(leaf.dtype)
    fresh.append(leaf)
  return jax.tree.unflatten(tree, fresh)


@functools.lru_cache(maxsize=64)
def _shapes(
  model: nn.Module, image_shape: tuple[int, ...], x64: bool
) -> tuple[ModelOutput, Variables]:
  """Traced once a model: all that ask for shapes would add up to seconds."""
  del x64
  key = jax.random.key(0)
  output, variables = jax.eval_shape(
    functools.partial(model.init_with_output, train=False),
    {"params": key, SHAPES_ALONE: key},
    jax.ShapeDtypeStruct((2, *image_shape), model.param_dtype),
  )
  return output, {"batch_stats": {}, **variables}


def count_parameters(variables: Variables) -> int:
  """Trainable numbers; batch statistics are not."""
  leaves = jax.tree.leaves(variables["params"])
  return sum(math.prod(leaf.shape) for leaf in leaves)


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
