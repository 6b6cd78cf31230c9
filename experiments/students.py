"""Several students, under ensembles of one family and of several.

    amtml sweep --experiment=students --workdir=runs/students
    amtml report runs/students

Averaging and AMTML-KD for every student under each ensemble.
`:data=fashion_mnist` for another data set.
"""

from ml_collections import ConfigDict

from amtml_jax.defaults import arguments
from amtml_jax.experiments import bases, comparison
from amtml_jax.tables import Table

SEEDS = range(5)
STUDENTS = ("resnet8_slim", "cnn", "mlp_small")
METHODS = ("avgmkd", "amtml")
ENSEMBLES = {
  "ResNets": ("resnet8", "resnet14", "resnet20_slim"),
  "mixed": ("resnet14", "lenet5", "cnn"),
}
RUNS = {
  f"{student}-{ensemble}-{method}": {
    "student": student,
    "teachers": teachers,
    "method": method,
  }
  for student in STUDENTS
  for ensemble, teachers in ENSEMBLES.items()
  for method in METHODS
}


def get_config(text: str = "") -> ConfigDict:
  """The base; `text` is what follows the colon of --experiment."""
  c = bases.base(arguments(text, data="digits")["data"])
  c.optimizer.clip_norm = 5.0  # two of the students have no batch norm
  return c


def tabulate(results: comparison.Results) -> list[Table]:
  """A table an ensemble: students × methods, and AMTML-KD's gain."""
  return [_table(ensemble, results) for ensemble in ENSEMBLES]


def _table(ensemble: str, results: comparison.Results) -> Table:
  rows, groups = [], {method: {} for method in METHODS}
  for student in STUDENTS:
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
    f"Students under {', '.join(ENSEMBLES[ensemble])} ({ensemble})",
    ("student", *METHODS, "difference", "p"),
    rows,
    notes=(
      "Test accuracy in percent, mean ± standard deviation over seeds; the "
      "mean paired difference of the two, and p of the paired t-test.",
    ),
    bars=groups,
    unit="test accuracy, %",
  )
