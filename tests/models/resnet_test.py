"""The shortcut's zeros and the pixels that a stride keeps, by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax import conv_norm, network
from amtml_jax.errors import UserError
from amtml_jax.models import resnet

# Two channels of a 4×4 map: 1 to 16, and 19 down to 4.
FIRST = np.arange(1.0, 17.0, dtype=np.float32).reshape(4, 4)
IMAGE = jnp.asarray(np.stack([FIRST, 20.0 - FIRST], axis=-1))[None]
EVEN = [[1.0, 3.0], [9.0, 11.0]]
EVEN_SECOND = [[19.0, 17.0], [11.0, 9.0]]


def block_with(block, edit):
  """The block on IMAGE, with kernels edited from zero and fresh statistics."""

  def fresh(path, leaf):
    kind = path[-1].key
    if kind == "kernel":
      return edit(path[1].key, jnp.zeros(leaf.shape))
    return jnp.full(leaf.shape, 1.0 if kind in ("scale", "var") else 0.0)

  init = functools.partial(block.init, train=False)
  apply = jax.jit(functools.partial(block.apply, train=False))
  shapes = jax.eval_shape(init, jax.random.key(0), IMAGE)
  return apply(jax.tree.map_with_path(fresh, shapes), IMAGE)[0]


def nothing(_, kernel):
  return kernel


def test_a_block_without_convolutions_is_its_shortcut():
  # 2 -> 5 channels: one zero before, two after; the pixels of even rows and
  # columns, counted from 0.
  output = block_with(resnet.Block(5, stride=2), nothing)
  zero = np.zeros((2, 2))
  expected = np.stack([zero, EVEN, EVEN_SECOND, zero, zero], axis=-1)
  np.testing.assert_array_equal(output, expected)


def test_a_stage_of_equal_width_hands_its_input_on():
  output = block_with(resnet.Block(2), nothing)
  np.testing.assert_array_equal(output, IMAGE[0])


def test_the_strided_convolution_is_centred_on_the_shortcuts_pixels():
  # Kernels that copy channel 0 to channel 1, which is where the shortcut puts
  # channel 0: the two paths add up to twice the even pixels (up to epsilon).
  def edit(conv, kernel):
    source = 0 if conv == "first" else 1
    return kernel.at[1, 1, source, 1].set(1.0)

  output = block_with(resnet.Block(4, stride=2), edit)
  np.testing.assert_allclose(output[..., 1], 2 * np.array(EVEN), rtol=2e-5)
  np.testing.assert_array_equal(output[..., 2], EVEN_SECOND)


def test_batch_norm_keeps_nine_tenths_of_the_old_statistics():
  # Channel 0 holds 1..16: mean 8.5 and, over all 16, variance 255/12 = 21.25.
  layer = conv_norm.ConvNorm(1)
  kernel = jnp.zeros((3, 3, 2, 1)).at[1, 1, 0, 0].set(1.0)
  zero, one = jnp.zeros(1), jnp.ones(1)
  norm = {"scale": one, "bias": zero}
  variables = {
    "params": {"conv": {"kernel": kernel}, "norm": norm},
    "batch_stats": {"norm": {"mean": zero, "var": one}},
  }
  output, stepped = layer.apply(
    variables, IMAGE, train=True, mutable="batch_stats"
  )
  stats = stepped["batch_stats"]["norm"]
  np.testing.assert_allclose(stats["mean"], [0.85], rtol=1e-6)
  np.testing.assert_allclose(stats["var"], [0.9 + 2.125], rtol=1e-6)
  expected = (FIRST - 8.5) / np.sqrt(21.25 + 1e-5)
  np.testing.assert_allclose(output[0, ..., 0], expected, rtol=1e-5)


def test_a_depth_that_is_not_6n_plus_2_is_refused():
  model = resnet.Model(10, depth=18)
  with pytest.raises(UserError, match="6n"):
    jax.eval_shape(model.init, jax.random.key(0), IMAGE)


def test_the_deepest_traces_five_blocks_of_its_54(monkeypatch):
  traced, plain = [], resnet.shortcut

  def counted(x, width, stride):
    traced.append((width, stride))
    return plain(x, width, stride)

  monkeypatch.setattr(resnet, "shortcut", counted)
  # A size of its own: what was traced before is found again.
  network.build("resnet110", 3, (0.0,), (1.0,)).shapes((9, 7, 1))
  assert sorted(traced) == [(16, 1), (32, 1), (32, 2), (64, 1), (64, 2)]
