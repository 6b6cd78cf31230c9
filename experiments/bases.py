"""What the experiments start from: a data set, its networks, a length."""

from ml_collections import ConfigDict

from amtml_jax.configs import cifar, digits, fashion_mnist

PAPER = ("cifar10", "cifar100")
NAMES = ("digits", "fashion_mnist", *PAPER)


def base(data: str) -> ConfigDict:
  """The config of a data set, at a size that two CPU cores finish.

  CIFAR is at the paper's size, for an accelerator.
  Fashion-MNIST's teachers see all training images, its students 1,000 of every
  class. Every image has its views (data.views), on which the teachers are heard
  once for all methods and seeds.
  """
  if data in PAPER:
    return cifar.get_config(f"dataset={data}")
  if data == "digits":
    c = digits.get_config()
    c.data.views = 16
    return c
  if data != "fashion_mnist":
    raise ValueError(f"data is one of {', '.join(NAMES)}, not {data}")
  c = fashion_mnist.get_config()
  c.data.labels_per_class = 1000
  c.epochs = c.data.views = 8
  return c
