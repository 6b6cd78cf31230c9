"""How many parameters each network has; a network without an entry fails.

The counts are sums over layers, written out for RGB images of 32×32 pixels:

- A convolution k×k from a to b channels has k²ab weights, and b biases where
  it is not followed by batch norm, which has 2b parameters. A dense layer has
  ab + b.
- ResNet of depth 6n + 2 and widths w, 2w, 4w: the stem 27w + 2w; stage 1
  2n(9w² + 2w); stage 2 (18w² + 4w) + (2n - 1)(36w² + 4w); stage 3 (72w² + 8w)
  + (2n - 1)(144w² + 8w); the head (4w + 1)C. Shortcuts have none. With w = 16
  and C = 10 that is 75,290 at n = 1 and 97,216 more for each further n; with
  w = 8 it is 19,218 and 24,416. He et al. give 0.27M, 0.46M, 0.66M, 0.85M and
  1.7M for depths 20 to 110.
- LeNet-5: 456 + 2,416 for the convolutions to 6 and 16 channels, and then
  400·120 + 120, 120·84 + 84 and 85C: 48,120 + 10,164 + 850.
- The small CNN: 1,216 + 4,640 + 51,264 + 25,616 for the convolutions to 16,
  32, 64 and 16 channels, and LeNet's dense layers.
- MLPs of two hidden layers of h units: 3072h + h, h² + h and (h + 1)C.
"""

import jax
import jax.numpy as jnp
import pytest

from amtml_jax import plugins

# name: parameters with 10 classes; 90 classes more cost 90 columns of the head.
COUNTS = {
  "cnn": 141_870,
  "lenet5": 62_006,
  "mlp": 5_140_810,
  "mlp_small": 201_482,
  "resnet8": 75_290,
  "resnet14": 172_506,
  "resnet20": 269_722,
  "resnet32": 464_154,
  "resnet44": 658_586,
  "resnet56": 853_018,
  "resnet110": 1_727_962,
  "resnet8_slim": 19_218,
  "resnet14_slim": 43_634,
  "resnet20_slim": 68_050,
  "resnet32_slim": 116_882,
  "resnet44_slim": 165_714,
  "resnet56_slim": 214_546,
  "resnet110_slim": 434_290,
}
COUNTS_100 = {
  "cnn": 149_520,
  "lenet5": 69_656,
  "mlp": 5_248_900,
  "mlp_small": 207_332,
  "resnet20": 275_572,
  "resnet32": 470_004,
  "resnet44": 664_436,
  "resnet56": 858_868,
  "resnet110": 1_733_812,
  "resnet8_slim": 22_188,
}


def count(name, num_classes, size=(32, 32, 3)):
  model = plugins.network(name)(num_classes)
  image = jax.ShapeDtypeStruct((1, *size), jnp.float32)
  variables = jax.eval_shape(model.init, jax.random.key(0), image)
  return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("name", plugins.networks())
def test_ten_classes(name):
  assert count(name, 10) == COUNTS[name]


@pytest.mark.parametrize("name", COUNTS_100)
def test_a_hundred_classes(name):
  assert count(name, 100) == COUNTS_100[name]


def test_the_table_has_no_network_that_is_gone():
  assert set(COUNTS) <= set(plugins.networks())


def test_lenet_on_28_pixels_is_the_classical_one():
  # 61,706: the first convolution padded by two, so that 5×5 pixels arrive.
  assert count("lenet5", 10, (28, 28, 1)) == 61_706
