"""Networks' shapes without a run, each traced once for all who ask."""

import functools

import jax
import jax.numpy as jnp

from amtml_jax import plugins
from amtml_jax.repeated import SHAPES_ALONE

COLOUR = (32, 32, 3)


def traced(model, size, dtype=jnp.float32):
  """Output and variables for two images."""
  image = jax.ShapeDtypeStruct((2, *size), dtype)
  key = jax.random.key(0)
  rngs = {"params": key, SHAPES_ALONE: key}
  return jax.eval_shape(model.init_with_output, rngs, image)


@functools.cache
def by_name(name, classes, size):
  return traced(plugins.network(name)(classes), size)


def parameters(name, classes, size=COLOUR):
  _, variables = by_name(name, classes, size)
  return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def check_output(output, size, classes):
  """Features are named maps in order of depth, which do not grow."""
  assert output.logits.shape == (2, classes)
  assert output.logits.dtype == jnp.float32

  stages = len(output.stages)
  stem = ("stem",) if output.names[0] == "stem" else ()
  assert output.names == (*stem, *(f"stage{i + 1}" for i in range(stages)))
  assert stages
  assert output.last is output.features[-1]

  pixels = [size[0] * size[1]]
  for feature in output.features:
    rows, height, width, _ = feature.shape
    assert rows == 2
    pixels.append(height * width)
  assert pixels == sorted(pixels, reverse=True)
  assert pixels[-1] >= 1
