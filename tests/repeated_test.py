"""Blocks that are alike: traced once, and a seed's parameters unchanged."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from amtml_jax.repeated import SHAPES_ALONE, repeated

TRACED = []


class Block(nn.Module):
  width: int

  @nn.compact
  def __call__(self, x, *, train):
    TRACED.append((self.width, train))
    x = nn.Dense(self.width, name="dense")(x)
    return nn.BatchNorm(not train, name="norm")(x)


class Stack(nn.Module):
  shared: bool = True

  @nn.compact
  def __call__(self, x, *, train=False):
    build = repeated(Block, self) if self.shared else Block
    for i, width in enumerate((3, 3, 3, 4)):
      x = build(width, name=f"block{i}")(x, train=train)
    return x


X = jnp.arange(6.0).reshape(2, 3)
KEY = jax.random.key(7)


def test_a_seed_gives_the_parameters_that_it_gave():
  mine, plain = (Stack(shared).init(KEY, X) for shared in (True, False))
  jax.tree.map(np.testing.assert_array_equal, mine, plain)


def test_blocks_that_are_alike_are_traced_once():
  variables = Stack(False).init(KEY, X)
  shapes = jax.eval_shape(Stack().init, {"params": KEY, SHAPES_ALONE: KEY}, X)
  assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, variables)
  for train in (False, True):
    TRACED.clear()
    output, stats = Stack().apply(
      variables, X, train=train, mutable=["batch_stats"]
    )
    once = [(3, train), (4, train)]
    assert once == TRACED
    same, same_stats = Stack(False).apply(
      variables, X, train=train, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(output, same, rtol=1e-6, atol=1e-6)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6),
      stats,
      same_stats,
    )
