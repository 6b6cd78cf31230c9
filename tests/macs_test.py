"""Multiply-accumulates against counts by hand, and published ones."""

import jax
import jax.numpy as jnp
import pytest

from amtml_jax import macs


def test_multiply_accumulates_by_hand():
  def function(x, kernel, w):
    x = jax.lax.conv_general_dilated(
      x,
      kernel,
      (2, 2),
      "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      feature_group_count=2,
    )
    product = jax.jit(lambda x: jnp.tanh(x @ w))
    x = jnp.mean(x, (1, 2))
    return jax.lax.scan(lambda x, _: (product(x), None), x, length=3)[0]

  shapes = [
    jax.ShapeDtypeStruct(shape, jnp.float32)
    for shape in ((1, 6, 6, 4), (3, 3, 2, 8), (8, 8))
  ]
  # 3x3 of 8 channels, each 3·3·(4/2) products; then 8 x 8, three times.
  assert macs.of_function(function, *shapes) == 9 * 8 * 18 + 3 * 8 * 8


def test_multiply_accumulates_of_a_gradient_and_a_choice_by_hand():
  def function(x, kernel):
    rows = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(
      x, kernel, (2, 2), "SAME", dimension_numbers=rows
    )
    y = y.reshape(9, 8)
    square = [lambda y: y.T @ y, lambda y: jnp.eye(8)]
    return jnp.sum(y) + jnp.sum(jax.lax.cond(y[0, 0] > 0, *square, y))

  x = jax.ShapeDtypeStruct((1, 6, 6, 4), jnp.float32)
  kernel = jax.ShapeDtypeStruct((3, 3, 4, 8), jnp.float32)
  once = 9 * 8 * (3 * 3 * 4)
  assert macs.of_function(function, x, kernel) == once + 8 * 8 * 9
  gradient = jax.grad(lambda *args: jnp.sum(function(*args)), (0, 1))
  # The product's gradient is two more, of 9 x 8 values each.
  products = 8 * 8 * 9 + 2 * 9 * 8 * 8
  assert macs.of_function(gradient, x, kernel) == 3 * once + products


def test_multiply_accumulates_as_they_are_published():
  # He et al.'s ResNet-20 on CIFAR: 40.55 M without its shortcuts' projections
  # (option A), as ptflops and the tables of many repositories have it.
  found = macs.of_network("resnet20", 10, (32, 32, 3))
  assert found["macs"] == pytest.approx(40.55e6, rel=1e-3)
  own = macs.of_network("mlp_small", 10, (8, 8, 1))
  assert own["macs"] == 64 * 64 + 64 * 64 + 64 * 10
  assert own["bytes"] == 4 * own["parameters"]
