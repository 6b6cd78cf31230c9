"""Multiply-accumulates of a traced function, counted from its shapes.

Each convolution and matrix product counts an output value times the products
that it sums; batch norm, activations and pooling count nothing. Padding counts
like pixels, as it does for everybody who counts so; the zeros that a strided
convolution's gradient puts between them do not. XLA's own estimate depends on
the backend: of a GPU's it leaves out what cuDNN does, which is nearly all.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from amtml_jax import network


def of_function(function: Any, *args: Any) -> int:
  """Of a function of arrays, or of their shapes; nothing is computed.

  A loop of unknown length counts once, a choice as its largest branch, and what
  is mapped over devices as one device does it.
  """
  return _of(jax.make_jaxpr(function)(*args).jaxpr)


def _of(jaxpr: Any) -> int:
  total = 0
  for equation in jaxpr.eqns:
    values = math.prod(equation.outvars[0].aval.shape)
    if equation.primitive.name == "conv_general_dilated":
      kernel = equation.invars[1].aval.shape
      features = equation.params["dimension_numbers"].rhs_spec[0]
      between = math.prod(equation.params["lhs_dilation"])
      total += values * math.prod(kernel) // (kernel[features] * between)
    elif equation.primitive.name == "dot_general":
      (contracted, _), _ = equation.params["dimension_numbers"]
      shape = equation.invars[0].aval.shape
      total += values * math.prod(shape[axis] for axis in contracted)
    elif equation.primitive.name == "cond":
      branches = equation.params["branches"]
      total += max(_of(branch.jaxpr) for branch in branches)
    else:
      times = equation.params.get("length", 1)  # of a scan
      inner = jax.tree.leaves(
        list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
      )
      for part in inner:
        part = getattr(part, "jaxpr", part)
        total += times * _of(part) if hasattr(part, "eqns") else 0
  return total


def of_network(name: str, classes: int, shape: tuple[int, ...]) -> dict:
  """Parameters, multiply-accumulates of one image, and bytes as float32."""
  one = (0.0,) * shape[-1], (1.0,) * shape[-1]
  net = network.build(name, classes, *one)
  variables = net.shapes(shape)[1]
  image = jax.ShapeDtypeStruct((1, *shape), jnp.uint8)
  leaves = jax.tree.leaves(variables)
  return {
    "parameters": sum(x.size for x in jax.tree.leaves(variables["params"])),
    "macs": of_function(net.predict, variables, image),
    # What ships: the parameters and the batch statistics.
    "bytes": sum(leaf.size * leaf.dtype.itemsize for leaf in leaves),
  }
