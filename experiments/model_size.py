"""Parameters, multiply-accumulates and bytes of teachers and students.

    amtml sweep --experiment=model_size --workdir=runs/model_size
    amtml report runs/model_size

Nothing is trained. MACs are of one image, counted from the shapes of the traced
forward pass (amtml_jax/macs.py), not XLA's estimate.
`:data=cifar100` counts the paper's networks; also any other of bases.py.
"""

import pathlib

from ml_collections import ConfigDict

from amtml_jax import macs
from amtml_jax.defaults import arguments
from amtml_jax.experiments import bases, comparison
from amtml_jax.progress import View
from amtml_jax.tables import Table

TEACH = False
CLASSES = {"cifar100": 100, "tiny_imagenet": 200}
SHAPES = {
  "digits": (8, 8, 1),
  "fashion_mnist": (28, 28, 1),
  "tiny_imagenet": (64, 64, 3),
}
SMALL = ("resnet8_slim", "resnet14_slim", "cnn", "mlp_small")
LARGE = ("resnet20", "resnet20_slim", "resnet8")


def get_config(text: str = "") -> ConfigDict:
  """The base; `text` is what follows the colon of --experiment."""
  return bases.base(arguments(text, data="digits")["data"])


def get_runs(text: str = "") -> dict[str, dict]:
  """One run a student."""
  paper = arguments(text, data="digits")["data"] in bases.PAPER
  return {name: {"student": name} for name in (LARGE if paper else SMALL)}


def images(settings: ConfigDict) -> tuple[tuple[int, int, int], int]:
  """The shape of a config's images, and how many classes they have."""
  own = settings.data.source == "digits"
  data = "digits" if own else settings.data.name
  return SHAPES.get(data, (32, 32, 3)), CLASSES.get(data, 10)


def run(settings: ConfigDict, workdir: pathlib.Path, view: View) -> dict:
  """The sizes of a student and of its teachers."""
  del workdir, view
  shape, classes = images(settings)
  return {
    "student": macs.of_network(settings.student, classes, shape),
    "teachers": {
      name: macs.of_network(name, classes, shape) for name in settings.teachers
    },
  }


def tabulate(results: comparison.Results) -> list[Table]:
  """Every network's size, and every pair's compression."""
  sizes, pairs, teachers = {}, [], {}
  for student, cells in results.items():
    for cell in cells[:1]:  # a seed changes no size
      own = cell["result"]["student"]
      teachers |= cell["result"]["teachers"]
      sizes[student] = own
      pairs += [
        (student, name, *(f"{other[k] / own[k]:.1f}x" for k in own))
        for name, other in cell["result"]["teachers"].items()
      ]
  lines = {**{f"{n} (teacher)": own for n, own in teachers.items()}, **sizes}
  return [
    Table(
      "Networks",
      ("network", "parameters", "MACs", "bytes"),
      [(name, *own.values()) for name, own in lines.items()],
      notes=(
        "MACs: multiply-accumulates of the convolutions and matrix products of "
        "one image, counted from shapes. Bytes: parameters and batch "
        "statistics as float32.",
      ),
    ),
    Table(
      "Compression: the teacher's size over the student's",
      ("student", "teacher", "parameters", "MACs", "bytes"),
      pairs,
    ),
  ]
