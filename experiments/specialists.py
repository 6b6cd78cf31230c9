"""Where listening pays: teachers that each know some classes best.

    amtml sweep --experiment=specialists --workdir=runs/specialists
    amtml report runs/specialists

Teacher t sees all images of its own classes and a share 1 - s of the others, by
skew s, and none that the student's run holds out; the student is a small dense
net on all of the digits' training split (`:data=fashion_mnist`: 5,000 images,
500 a class), seeds 0 to 4. Images stay as they are: moved and mirrored ones
cost a dense net more than they teach it.
`:skews=0.97` runs fewer skews, with a + between them. `:tuned=yes` gives every
method the settings that tuning.py chose for it.
"""

import dataclasses
import math
import pathlib

import jax
import numpy as np
from ml_collections import ConfigDict

from amtml_jax import commands, config, ensemble, files, network
from amtml_jax.defaults import arguments
from amtml_jax.experiments import (
  bases,
  compare_methods,
  comparison,
  skew_tables,
)
from amtml_jax.experiments.tuned import TUNED
from amtml_jax.progress import View
from amtml_jax.tables import Table
from amtml_jax.types import Dataset

SEEDS = range(5)
# Of a dense student `at` has no map of attention: it would be okd.
METHODS = tuple(m for m in compare_methods.METHODS if m != "at")
GROUPS = {
  "digits": ((0, 1, 2, 3), (4, 5, 6), (7, 8, 9)),
  "idx": ((0, 2, 4, 6), (1, 3, 8), (5, 7, 9)),  # Fashion-MNIST
}

_there: dict[str, pathlib.Path] = {}  # ensembles, by what they are of


def _read(text: str) -> dict:
  read = arguments(text, data="digits", skews="0+0.5+0.9+0.97+1", tuned="no")
  if read["tuned"] not in ("yes", "no"):
    raise ValueError(f"tuned is yes or no, not {read['tuned']}")
  skews(read["skews"])
  return read


def skews(text: str) -> list[str]:
  """The skews of `0+0.5`, as they are written.

  Raises:
    ValueError: one is no number from 0 to 1, or is there twice.
  """
  words, numbers = text.split("+"), []
  for word in words:
    try:
      numbers.append(float(word))
    except ValueError:
      numbers.append(math.nan)
    if not 0 <= numbers[-1] <= 1:
      raise ValueError(f"a skew is a number from 0 to 1, not {word!r}")
  if len(set(numbers)) < len(numbers):
    raise ValueError(f"skews={text} has one twice")
  return words


def get_config(text: str = "") -> ConfigDict:
  """The base; `text` is what follows the colon of --experiment."""
  data = _read(text)["data"]
  if data not in ("digits", "fashion_mnist"):
    raise ValueError(f"data is digits or fashion_mnist, not {data}")
  c = bases.base(data)
  c.student = "mlp_small"
  c.teachers = ("a=cnn", "b=cnn", "c=cnn")
  c.data.pad, c.data.flip, c.data.views = 0, False, 1
  c.epochs = 40
  c.optimizer.learning_rate = 0.05
  for optimizer in (c.optimizer, c.teacher.optimizer):
    optimizer.clip_norm = 5.0  # none of the networks has batch norm
  if c.data.source == "idx":
    c.data.labels_per_class = 500
    c.teachers = ("a=lenet5", "b=lenet5", "c=lenet5")
    c.teacher.epochs = 5
  return c


def get_runs(text: str = "") -> dict[str, dict]:
  """Methods × skews; what has no teachers is run once."""
  read = _read(text)
  chosen = _chosen(read["data"]) if read["tuned"] == "yes" else {}
  return {
    skew_tables.run(method, skew): {"method": method, **chosen.get(method, {})}
    for skew in skews(read["skews"])
    for method in METHODS
  }


def _chosen(data: str) -> dict[str, dict]:
  if data not in TUNED:
    known = ", ".join(TUNED)
    raise ValueError(f"tuned.py knows {known}, not {data}: run tuning.py")
  return TUNED[data]


def teach(
  run: str, settings: ConfigDict, workdir: pathlib.Path, view: View
) -> pathlib.Path:
  """The ensemble of a run's skew: every teacher on its own part of the data.

  Each is ranked by images that none of them has seen and that have all classes:
  those that the student's run holds out. A process looks for them once.
  """
  skew, folder = run.split()[1], workdir / run.split()[1]
  own = [config.teacher(settings, spec) for spec in settings.teachers]
  alike = files.digest(
    [str(folder), [files.plain(config.as_dict(of)) for of in own]]
  )
  if not (alike in _there and (_there[alike] / ensemble.MANIFEST).exists()):
    _there[alike] = _taught(settings, skew, folder, view)
  return _there[alike]


def _taught(
  settings: ConfigDict, skew: str, folder: pathlib.Path, view: View
) -> pathlib.Path:
  whole, taught = settings.data.source, []
  held = f"{settings.data.validation}/{settings.data.split_seed}"
  for spec, own in zip(settings.teachers, GROUPS[whole], strict=True):
    alone = settings.copy_and_resolve_references()
    alone.teachers, alone.data.views = (spec,), 0
    alone.data.source = "amtml_jax.experiments.skewed"
    alone.data.name = f"{whole}/{'+'.join(map(str, own))}/{skew}/{held}"
    alone.data.labels_per_class = 0
    name = network.split_name(spec)[0]
    taught.append(commands.teach(alone, folder / name, view))
  together = folder / "ensemble"
  if (together / ensemble.MANIFEST).exists():
    there = [t.fingerprint for t in ensemble.manifest(together)]
    if there == [one.teachers[0].fingerprint for one in taught]:
      return together  # another run has ranked them
  held_out = commands.load(config.resolve(settings).data).validation
  entries = tuple(_ranked(one, held_out) for one in taught)
  ensemble.save(together, entries, tuple(one.variables[0] for one in taught))
  return together


def _ranked(one: ensemble.Ensemble, held_out: Dataset) -> ensemble.Teacher:
  """A teacher alone, with its accuracy on these images."""
  (entry,), (variables,) = one.teachers, one.variables
  accuracy = _accuracy(entry.network(), variables, held_out)
  return dataclasses.replace(entry, validation_accuracy=accuracy)


def _accuracy(
  own: network.Network, variables: network.Variables, split: Dataset
) -> float:
  predict = jax.jit(lambda image: own.predict(variables, image).logits)
  right = 0
  for at in range(0, len(split.label), 1000):
    logits = predict(split.image[at : at + 1000])
    chosen = np.argmax(np.asarray(logits), axis=-1)
    right += int(np.sum(chosen == split.label[at : at + 1000]))
  return right / len(split.label)


def tabulate(results: comparison.Results) -> list[Table]:
  """Gains and ways by skew, a table of methods a skew, who is heard."""
  return skew_tables.tables(results, METHODS)
