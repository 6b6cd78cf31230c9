"""Blocks of the large families, by hand: order of channels, strides, sums.

Kernels are zero but for what a test sets, and statistics fresh, so that a norm
divides by √(1 + ε) and nothing else.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax.models import densenet, dpn, googlenet, mobilenetv2
from amtml_jax.models import resnet_preactivated as preactivated
from amtml_jax.models import resnet_projected as projected
from amtml_jax.models import shufflenetv2 as shuffle
from amtml_jax.pooling import halved

# Two channels of a 4×4 map: 1 to 16, and -1 to -16.
FIRST = np.arange(1.0, 17.0, dtype=np.float32).reshape(4, 4)
IMAGE = jnp.asarray(np.stack([FIRST, -FIRST], axis=-1))[None]
EVEN = FIRST[::2, ::2]
ZERO = np.zeros((4, 4))


def output(module, taps=(), image=IMAGE):
  """What the module gives, with ones at `taps`.

  A tap is the convolution's name and the place (row, column, in, out).
  """

  def fresh(path, leaf):
    kind, names = path[-1].key, [p.key for p in path]
    value = np.full(leaf.shape, float(kind in ("scale", "var")), np.float32)
    for conv, place in taps:
      if kind == "kernel" and conv in names:
        value[place] = 1.0
    return value

  init = functools.partial(module.init, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), image)
  apply = jax.jit(functools.partial(module.apply, train=False))
  return apply(jax.tree.map_with_path(fresh, shapes), image)


def check(found, *channels):
  expected = np.stack(channels, axis=-1)
  np.testing.assert_allclose(found[0], expected, rtol=5e-5)


def test_a_projected_shortcut_and_its_relu():
  # 2 -> 3 channels, stride 2: from channel 0 to 2, from channel 1 to 0.
  taps = [("shortcut", (0, 0, 0, 2)), ("shortcut", (0, 0, 1, 0))]
  found = output(projected.Block(3, stride=2), taps)
  check(found, EVEN * 0, EVEN * 0, EVEN)


@pytest.mark.parametrize("module", [projected, preactivated])
def test_the_stride_of_three_convolutions_is_in_the_middle(module):
  # The middle kernel takes the pixel to the right of an even one: the first
  # convolution must have left it there.
  taps = [("conv1", (0, 0, 0, 0)), ("conv2", (1, 2, 0, 0))]
  last = "conv3" if module is projected else "last"
  taps.append((last, (0, 0, 0, 0)))
  found = output(module.Block(1, stride=2, inner=1), taps)
  check(found, FIRST[::2, 1::2])


def test_a_preactivated_block_adds_to_what_came_before_its_norm():
  check(output(preactivated.Block(2)), FIRST, -FIRST)


def test_a_preactivated_shortcut_sees_the_first_relu():
  taps = [("shortcut", (0, 0, c, c)) for c in (0, 1)]
  found = output(preactivated.Block(3), taps)
  check(found, FIRST, ZERO, ZERO)


def test_a_dense_layer_appends():
  taps = [("conv1", (0, 0, 0, 0)), ("conv2", (1, 1, 0, 0))]
  check(output(densenet.Layer(1), taps), FIRST, -FIRST, FIRST)


def test_dual_paths_add_before_and_append_after():
  # The first channel is the residual path, the second the dense one.
  taps = [("conv1", (0, 0, 0, 0)), ("conv2", (1, 1, 0, 0))]
  taps += [("conv3", (0, 0, 0, c)) for c in (0, 1)]
  found = output(dpn.Block(1, 1, 1, groups=1), taps)
  check(found, 2 * FIRST, ZERO, FIRST)


def test_an_inverted_residual_has_no_relu_at_its_end():
  check(output(mobilenetv2.Block(2)), FIRST, -FIRST)
  check(output(mobilenetv2.Block(1)), ZERO)
  check(output(mobilenetv2.Block(2, stride=2)), EVEN * 0, EVEN * 0)


def test_shuffled_channels_come_by_turns():
  # Channels 0 and 1 are handed on; 2 and 3 are convolved, 3 to the end alone.
  image = jnp.concatenate([IMAGE, 2 * IMAGE, 3 * IMAGE], axis=-1)[..., :5:2]
  image = jnp.concatenate([image, 4 * IMAGE[..., :1]], axis=-1)
  taps = [("right1", (0, 0, 1, 1)), ("right2", (1, 1, 0, 1))]
  taps.append(("right3", (0, 0, 1, 1)))
  found = output(shuffle.Block(4), taps, image)
  check(found, FIRST, ZERO, 2 * FIRST, 4 * FIRST)


def test_a_shuffled_block_of_stride_2_sees_all_channels_twice():
  taps = [("left1", (1, 1, 0, 0)), ("left2", (0, 0, 0, 0))]
  taps += [("right1", (0, 0, 0, 0)), ("right2", (1, 2, 0, 0))]
  taps.append(("right3", (0, 0, 0, 0)))
  found = output(shuffle.Block(2, stride=2), taps)
  check(found, EVEN, FIRST[::2, 1::2])


def test_an_inception_puts_its_branches_in_order():
  taps = [("one", (0, 0, 0, 0)), ("pool", (0, 0, 0, 0))]
  taps += [("three1", (0, 0, 0, 0)), ("three2", (1, 0, 0, 0))]
  taps += [("five1", (0, 0, 0, 0)), ("five2", (1, 2, 0, 0))]
  taps.append(("five3", (1, 2, 0, 0)))
  found = output(googlenet.Inception((1,) * 6), taps)
  # One pixel from the left; two from the right; the largest of 3×3.
  left, right = np.zeros((2, 4, 4))
  left[:, 1:], right[:, :2] = FIRST[:, :3], FIRST[:, 2:]
  rows = np.minimum(np.arange(4) + 1, 3)
  check(found, FIRST, left, right, FIRST[np.ix_(rows, rows)])


def test_halving_keeps_the_last_pixel():
  check(halved(IMAGE, nn.avg_pool)[..., :1], [[3.5, 5.5], [11.5, 13.5]])
  row = halved(IMAGE[:, :1, :3], nn.max_pool)
  check(row, [[2.0]], [[-1.0]])
