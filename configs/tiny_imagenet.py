"""Tiny-ImageNet, 200 classes at 64x64, with the paper's networks and settings.

    amtml prepare tiny_imagenet --manual_dir=ARCHIVES
    amtml run --config=tiny_imagenet --workdir=runs/tiny_imagenet

ARCHIVES is a folder with http://cs231n.stanford.edu/tiny-imagenet-200.zip. The
test split is its labelled validation split; what validates is held out of the
100,000 training images, as everywhere.

Teachers ResNet-110, -56 and -32, student ResNet-20, the paper's own choice for
this set too. They are CIFAR's networks with CIFAR's stem: stages of 64, 32 and
16 pixels, four times the work of an image of CIFAR. 200 epochs each: meant for
an accelerator. `--config.data.folder` says where the data set was prepared.
"""

from ml_collections import ConfigDict

from amtml_jax.defaults import arguments, defaults


def get_config(text: str = "") -> ConfigDict:
  """The run; `text` is what follows the colon of --config."""
  args = arguments(text, method="amtml")
  c = defaults()
  c.method = args["method"]
  c.student = "resnet20"
  c.teachers = ("resnet32", "resnet56", "resnet110")
  c.data.name = "tiny_imagenet"
  return c
