"""Fashion-MNIST from Debian's package `dataset-fashion-mnist`.

    amtml run --config=fashion_mnist --workdir=runs/fashion_mnist

Three small teachers and a smaller student, on all 60,000 images, sized so that
two CPU cores end within 45 minutes. The paper's networks and length, for an
accelerator:

    amtml run --config=fashion_mnist:size=full --workdir=runs/fashion_full

With the IDX files elsewhere, add --config.data.folder=FOLDER.
"""

from ml_collections import ConfigDict

from amtml_jax.defaults import arguments, defaults


def get_config(text: str = "") -> ConfigDict:
  """The run; `text` is what follows the colon of --config."""
  args = arguments(text, size="cpu", method="amtml")
  c = defaults()
  c.method = args["method"]
  c.data.source = "idx"
  c.data.name = "fashion_mnist"
  c.data.pad = 2
  if args["size"] == "full":
    return c
  if args["size"] != "cpu":
    raise ValueError(f"size is cpu or full, not {args['size']}")
  c.student = "resnet8_slim"
  c.teachers = ("resnet8", "resnet14_slim", "lenet5")
  c.epochs, c.teacher.epochs = 6, 3
  for optimizer in (c.optimizer, c.teacher.optimizer):
    optimizer.schedule = "cosine"
    optimizer.clip_norm = 5.0  # LeNet-5 has no batch norm
  c.teacher.optimizer.warmup_epochs = 1
  return c
