"""What the experiments start from: a data set, its networks, a length."""

from ml_collections import ConfigDict

from amtml_jax.configs import (
  cifar,
  digits,
  fashion_mnist,
  svhn,
  tiny_imagenet,
)

# With the paper's networks.
PAPER = ("cifar10", "cifar100", "svhn", "tiny_imagenet")
NAMES = ("digits", "fashion_mnist", "fashion_mnist_all", *PAPER)


def base(data: str) -> ConfigDict:
  """The config of a data set, at a size that two CPU cores finish.

  For an accelerator: those of the paper's size, and `fashion_mnist_all`.
  Fashion-MNIST's teachers see all training images, its students 1,000 of every
  class, or all. Every image has its views (data.views), on which the teachers
  are heard once for all methods and seeds.
  """
  if data in ("svhn", "tiny_imagenet"):
    return (svhn if data == "svhn" else tiny_imagenet).get_config()
  if data in PAPER:
    return cifar.get_config(f"dataset={data}")
  if data == "digits":
    c = digits.get_config()
    c.data.views = 16
    return c
  if data not in NAMES:
    raise ValueError(f"data is one of {', '.join(NAMES)}, not {data}")
  c = fashion_mnist.get_config()
  c.epochs = c.data.views = 8
  c.data.labels_per_class = 1000
  if data == "fashion_mnist_all":
    c.data.labels_per_class, c.data.views = 0, 4
    # After 3, a student of as many images is better than they are.
    c.teacher.epochs = 20
  return c
