"""SVHN's cropped digits with the paper's networks and settings.

    amtml prepare svhn_cropped
    amtml run --config=svhn --workdir=runs/svhn

73,257 training images (the easy `extra` ones are left out) and 26,032 of test.
A mirrored digit is another sign, so nothing is flipped. Teachers ResNet-32, -56
and -110, student ResNet-20, 200 epochs each: meant for an accelerator.
`--config.data.folder` says where the data set was prepared.
"""

from ml_collections import ConfigDict

from amtml_jax.defaults import arguments, defaults


def get_config(text: str = "") -> ConfigDict:
  """The run; `text` is what follows the colon of --config."""
  args = arguments(text, method="amtml")
  c = defaults()
  c.method = args["method"]
  c.data.name = "svhn_cropped"
  c.data.flip = False
  return c
