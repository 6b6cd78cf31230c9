"""2, 3 and 5 teachers, by method: the paper's Fig. 3.

    amtml sweep --experiment=number_of_teachers --workdir=runs/number
    amtml report runs/number

Each ensemble contains the smaller ones. `:data=fashion_mnist` for another data
set; `:data=cifar100` (or cifar10), with networks of its size, for an
accelerator. The paper's bars, of CIFAR-100, stand beside those of CIFAR-100
alone.
"""

from ml_collections import ConfigDict

from amtml_jax.defaults import arguments
from amtml_jax.experiments import bases, comparison
from amtml_jax.tables import Table

SEEDS = range(5)
METHODS = ("okd", "dml", "avgmkd", "ebkd", "amtml")  # dml: so many peers
SMALL = ("resnet8", "cnn", "resnet14", "lenet5", "resnet14_slim")
LARGE = ("resnet32", "resnet56", "resnet110", "resnet44", "wrn16_2")
COUNTS = (2, 3, 5)
# Read off the bars, ± 0.05 (SPEC: section 7); CIFAR-100, 2, 3, 5 teachers.
PAPER = {
  "okd": (68.7, 68.8, 68.0),
  "dml": (68.9, 69.05, 69.4),
  "avgmkd": (68.9, 69.65, 69.7),
  "amtml": (70.15, 70.4, 70.45),
}


def _read(text: str) -> str:
  return arguments(text, data="digits")["data"]


def get_config(text: str = "") -> ConfigDict:
  """The base; `text` is what follows the colon of --experiment."""
  return bases.base(_read(text))


def get_runs(text: str = "") -> dict[str, dict]:
  """Numbers × methods; of peers so many."""
  names = LARGE if _read(text) in bases.PAPER else SMALL
  return {
    f"{method}-{n}": {
      "method": method,
      **({"peers": n} if method == "dml" else {"teachers": names[:n]}),
    }
    for n in COUNTS
    for method in METHODS
  }


def tabulate(results: comparison.Results) -> list[Table]:
  """Methods × number of teachers, and the paper's where it is comparable."""
  columns = ("method", *(f"{count} teachers" for count in COUNTS))
  rows, groups = [], {name: {} for name in columns[1:]}
  for method in METHODS:
    row = []
    for count, name in zip(COUNTS, columns[1:], strict=True):
      values = comparison.accuracy(results[f"{method}-{count}"])
      row.append(comparison.shown(values))
      if values:
        groups[name][method] = comparison.mean_std(values)
    rows.append((method, *row))
  note = "Test accuracy in percent, mean ± standard deviation over seeds."
  unit = "test accuracy, %"
  of = [[f"{method}-{count}" for count in COUNTS] for method in METHODS]
  made = [Table("Accuracy", columns, rows, (note,), groups, unit, of=of)]
  configs = [c["config"]["data"] for cells in results.values() for c in cells]
  if any(data["name"] == "cifar100" for data in configs):
    made.append(_paper(columns, unit))
  return made


def _paper(columns: tuple[str, ...], unit: str) -> Table:
  groups = {
    name: {method: (bars[i], 0.05) for method, bars in PAPER.items()}
    for i, name in enumerate(columns[1:])
  }
  rows = [(m, *(f"{x:.2f}" for x in bars)) for m, bars in PAPER.items()]
  note = "Liu et al. 2020, read off the bars to 0.05; CIFAR-100."
  title = "The paper's Fig. 3"
  return Table(title, columns, rows, (note,), groups, unit, measured=False)
