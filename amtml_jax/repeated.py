"""Blocks that a deep network repeats are traced once for all that are alike.

A ResNet-110 is 54 blocks of five kinds, and JAX traces Python every time that a
program is made of it: for shapes, for checks, for a step, for evaluation. The
compiler inlines the blocks again, so the program is the same.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn

# A random stream whose presence says that values do not matter, only shapes.
SHAPES_ALONE = "shapes_alone"


@functools.cache
def _traced_once(block: type[nn.Module]) -> type[nn.Module]:
  return nn.jit(block, static_argnames=("train",))


def repeated(block: type[nn.Module], model: nn.Module) -> Any:
  """What a model's `__call__` builds its blocks of, in place of `block`.

  Not where parameters are drawn: flax draws others inside jit, and a seed
  must go on giving the network that it gave.

  Args:
    block: a linen module, called with arrays and `train=`.
    model: the module that is being called.
  """
  if model.is_initializing() and not model.has_rng(SHAPES_ALONE):
    return block
  return _traced_once(block)
