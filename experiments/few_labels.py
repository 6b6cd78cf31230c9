"""What the teachers add to ten labelled images a class.

    python experiments/few_labels.py --workdir=runs/few_labels

The student sees 10 labelled digits a class, the teachers the whole training
split; the same student alone stands beside it, over seeds 0 to 4, under one
ensemble. Finished runs are not repeated. Prints the table and writes it to
few_labels.json in the workdir.
"""

import pathlib
import sys

from absl import flags
from rich.table import Table

from amtml_jax import commands, files
from amtml_jax.configs import digits
from amtml_jax.experiments import paired
from amtml_jax.progress import View

WORKDIR = flags.DEFINE_string("workdir", "runs/few_labels", "where to write")
METHODS = ("alone", "avgmkd", "amtml")
SEEDS = range(5)


def accuracy(method: str, seed: int, folder: pathlib.Path, view: View) -> float:
  """The last student's test accuracy, in percent."""
  config = digits.get_config(f"labels=10,method={method}")
  config.seed = seed
  config.ensemble = str(folder / "ensemble")
  summary = commands.run(config, folder / method / str(seed), view)
  return 100 * summary["student"]["test_accuracy"]


def main() -> None:
  """Teaches once, then runs every method and seed."""
  folder, view = pathlib.Path(WORKDIR.value), View()
  commands.teach(digits.get_config(), folder, view)
  results = {
    m: [accuracy(m, seed, folder, view) for seed in SEEDS] for m in METHODS
  }
  table = Table("method", "test accuracy", "gain over alone")
  lines = {m: paired.line(v, results["alone"]) for m, v in results.items()}
  for method, own in lines.items():
    table.add_row(method, *paired.cells(own))
  view.console.print(table)
  files.write_json(folder / "few_labels.json", lines)


if __name__ == "__main__":
  flags.FLAGS(sys.argv)
  main()
