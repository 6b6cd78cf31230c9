"""CIFAR-10 or CIFAR-100 with the paper's networks and settings.

    amtml prepare cifar10
    amtml run --config=cifar --workdir=runs/cifar10
    amtml prepare cifar100
    amtml run --config=cifar:dataset=cifar100 --workdir=runs/cifar100

Teachers ResNet-32, -56 and -110, student ResNet-20, 200 epochs each: meant for
an accelerator. `--config.data.folder` says where the data set was prepared.
"""

from ml_collections import ConfigDict

from amtml_jax.defaults import arguments, defaults


def get_config(text: str = "") -> ConfigDict:
  """The run; `text` is what follows the colon of --config."""
  args = arguments(text, dataset="cifar10", method="amtml")
  if args["dataset"] not in ("cifar10", "cifar100"):
    raise ValueError(f"dataset is cifar10 or cifar100, not {args['dataset']}")
  c = defaults()
  c.method = args["method"]
  c.data.name = args["dataset"]
  return c
