"""Every network's shapes: its features, and how many parameters it has.

A network without an entry in the table fails.

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
- The others are counted in `layer_lists.py`. Of those, published elsewhere, and
  equal: torchvision's documentation for its ResNets, MobileNetV2 and
  ShuffleNetV2 with 1000 classes. The convolutions of its VGGs count as ours,
  and our ResNets for small images as its own but for the stem, 9·3·64 weights
  instead of 49·3·64. Its DenseNet-121 has a batch norm more, after a larger
  stem (7,978,856 = 7,971,048 + 40·3·64 + 2·64); its AlexNet and GoogLeNet have
  other layers than the small forms, whose source stands in their files. With
  100 classes wrn16_2 (0.70M), wrn40_2 (2.26M), resnet8x4 (1.23M) and resnet32x4
  (7.43M), as tables of distillation papers give them; with 10 classes
  densenet_bc_100_12 (0.8M, Huang et al., table 2). The totals of pytorch-cifar
  that are often quoted are those of vgg16, resnet18, preact_resnet18,
  resnext29_2x64d, densenet121, googlenet, dpn26 and shufflenetv2.
"""

import pytest

from amtml_jax import plugins
from tests.models.layer_lists import TOTALS
from tests.models.shapes import COLOUR, by_name, check_output, parameters

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
  "alexnet": 2_472_266,
  "densenet121": 6_956_298,
  "densenet_bc_100_12": 769_162,
  "dpn26": 11_574_842,
  "googlenet": 6_166_250,
  "mobilenetv2": 2_236_682,
  "preact_resnet18": 11_171_146,
  "preact_resnet50": 23_509_066,
  "resnet101": 42_512_970,
  "resnet18": 11_173_962,
  "resnet32x4": 7_410_730,
  "resnet34": 21_282_122,
  "resnet50": 23_520_842,
  "resnet8x4": 1_210_410,
  "resnet101_imagenet": 42_520_650,
  "resnet18_imagenet": 11_181_642,
  "resnet34_imagenet": 21_289_802,
  "resnet50_imagenet": 23_528_522,
  "resnext29_2x64d": 9_128_778,
  "resnext29_4x64d": 27_104_586,
  "shufflenetv2": 1_263_854,
  "vgg11": 9_231_114,
  "vgg13": 9_416_010,
  "vgg16": 14_728_266,
  "vgg19": 20_040_522,
  "wrn16_2": 691_674,
  "wrn28_2": 1_467_610,
  "wrn28_4": 5_849_050,
  "wrn40_2": 2_243_546,
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
  "resnet8x4": 1_233_540,
  "resnet32x4": 7_433_860,
  "wrn16_2": 703_284,
  "wrn40_2": 2_255_156,
}
# Rows and channels of each feature of a 32×32 image, the stem first if there is
# one, from the papers' tables with the stems of the small forms.
MAPS = {
  "alexnet": "8:64 4:192 2:256",
  "densenet121": "32:64 32:256 16:512 8:1024 4:1024",
  "densenet_bc_100_12": "32:24 32:216 16:300 8:342",
  "dpn26": "32:64 32:304 16:608 8:1096 4:2432",
  "googlenet": "32:192 32:480 16:832 8:1024",
  "mobilenetv2": "32:32 32:24 16:32 8:96 4:1280",
  "preact_resnet50": "32:64 32:256 16:512 8:1024 4:2048",
  "resnet18": "32:64 32:64 16:128 8:256 4:512",
  "resnet32x4": "32:32 32:64 16:128 8:256",
  "resnet50_imagenet": "8:64 8:256 4:512 2:1024 1:2048",
  "resnext29_2x64d": "32:64 32:256 16:512 8:1024",
  "shufflenetv2": "32:24 16:116 8:232 4:1024",
  "vgg16": "32:64 16:128 8:256 4:512 2:512",
  "wrn28_4": "32:16 32:64 16:128 8:256",
}
COUNTS_1000 = {
  "mobilenetv2": 3_504_872,
  "resnet18_imagenet": 11_689_512,
  "resnet34_imagenet": 21_797_672,
  "resnet50_imagenet": 25_557_032,
  "resnet101_imagenet": 44_549_160,
  "shufflenetv2": 2_278_604,
}


@pytest.mark.parametrize("name", plugins.networks())
def test_ten_classes(name):
  assert parameters(name, 10) == COUNTS[name]


@pytest.mark.parametrize("name", plugins.networks())
def test_features_are_named_maps_in_order_of_depth(name):
  output, _ = by_name(name, 10, COLOUR)
  check_output(output, COLOUR, 10)


@pytest.mark.parametrize("name", MAPS)
def test_the_sizes_and_widths_of_features(name):
  output, _ = by_name(name, 10, COLOUR)
  found = " ".join(f"{f.shape[1]}:{f.shape[3]}" for f in output.features)
  assert found == MAPS[name]


@pytest.mark.parametrize("name", COUNTS_100)
def test_a_hundred_classes(name):
  assert parameters(name, 100) == COUNTS_100[name]


@pytest.mark.parametrize("name", COUNTS_1000)
def test_a_thousand_classes(name):
  assert parameters(name, 1000) == COUNTS_1000[name]


@pytest.mark.parametrize("name", TOTALS)
def test_the_table_is_what_the_layers_add_up_to(name):
  table = {10: COUNTS, 100: COUNTS_100, 1000: COUNTS_1000}
  found = {c: counts[name] for c, counts in table.items() if name in counts}
  assert found == {classes: TOTALS[name](classes) for classes in found}


def test_the_table_has_no_network_that_is_gone():
  assert set(COUNTS) <= set(plugins.networks())


def test_lenet_on_28_pixels_is_the_classical_one():
  # 61,706: the first convolution padded by two, so that 5×5 pixels arrive.
  assert parameters("lenet5", 10, (28, 28, 1)) == 61_706
