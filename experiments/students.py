"""Several students, under ensembles of one family and of several.

    amtml sweep --experiment=students --workdir=runs/students
    amtml report runs/students

Averaging and AMTML-KD for every student under each ensemble.
`:data=fashion_mnist` for another data set; `:data=cifar100` (or cifar10), with
networks of its size, for an accelerator.
"""

from ml_collections import ConfigDict

from amtml_jax.defaults import arguments
from amtml_jax.experiments import bases, comparison
from amtml_jax.tables import Table

SEEDS = range(5)
METHODS = ("avgmkd", "amtml")
SMALL = {
  "students": ("resnet8_slim", "cnn", "mlp_small"),
  "ResNets": ("resnet8", "resnet14", "resnet20_slim"),
  "mixed": ("resnet14", "lenet5", "cnn"),
}
PAPER = {
  "students": ("resnet20", "mobilenetv2", "shufflenetv2"),
  "ResNets": ("resnet32", "resnet56", "resnet110"),
  "mixed": ("vgg13", "densenet_bc_100_12", "resnet56"),
}


def _read(text: str) -> str:
  return arguments(text, data="digits")["data"]


def get_config(text: str = "") -> ConfigDict:
  """The base; `text` is what follows the colon of --experiment."""
  c = bases.base(_read(text))
  c.optimizer.clip_norm = 5.0  # some of the students have no batch norm
  return c


def get_runs(text: str = "") -> dict[str, dict]:
  """Students × ensembles × methods."""
  ensembles = dict(PAPER if _read(text) in bases.PAPER else SMALL)
  students = ensembles.pop("students")
  return {
    f"{student}-{ensemble}-{method}": {
      "student": student,
      "teachers": teachers,
      "method": method,
    }
    for student in students
    for ensemble, teachers in ensembles.items()
    for method in METHODS
  }


def tabulate(results: comparison.Results) -> list[Table]:
  """A table an ensemble: students × methods, and AMTML-KD's gain."""
  ensembles = dict.fromkeys(run.split("-")[1] for run in results)
  return [_table(ensemble, results) for ensemble in ensembles]


def _table(ensemble: str, results: comparison.Results) -> Table:
  rows, groups = [], {method: {} for method in METHODS}
  students = dict.fromkeys(run.split("-")[0] for run in results)
  under = [
    c for run, cells in results.items() if ensemble in run for c in cells
  ]
  teachers = under[0]["config"]["teachers"] if under else ()
  for student in students:
    own = {
      method: comparison.accuracy(results[f"{student}-{ensemble}-{method}"])
      for method in METHODS
    }
    for method, values in own.items():
      if values:
        groups[method][student] = comparison.mean_std(values)
    gain = comparison.difference(own["amtml"], own["avgmkd"])
    rows.append((student, *map(comparison.shown, own.values()), *gain))
  return Table(
    f"Students under teachers: {ensemble}",
    ("student", *METHODS, "difference", "p"),
    rows,
    notes=(
      f"Teachers: {', '.join(teachers)}. "
      "Test accuracy in percent, mean ± standard deviation over seeds; the "
      "mean paired difference of the two, and p of the paired t-test.",
    ),
    bars=groups,
    unit="test accuracy, %",
    of=[[f"{s}-{ensemble}-{method}" for method in METHODS] for s in students],
  )
