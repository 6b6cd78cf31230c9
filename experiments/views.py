"""Few views of an image, kept, against another view in every epoch.

    python experiments/views.py --workdir=runs/views

Digits, AMTML-KD with all terms, seeds 0 to 4 under one ensemble. Of few views
the teachers' outputs are computed once. Finished runs are not repeated. Prints
the table and writes it to views.json in the workdir. Seconds are of distilling
alone: what is computed once, in a row's first run, is not counted.
"""

import pathlib
import statistics
import sys

from absl import flags
from rich.table import Table

from amtml_jax import commands, files
from amtml_jax.configs import digits
from amtml_jax.experiments import paired
from amtml_jax.progress import View

WORKDIR = flags.DEFINE_string("workdir", "runs/views", "where to write")
VIEWS = (0, 1, 4, 16)  # 0: another one in every epoch
SEEDS = range(5)


def student(views: int, seed: int, folder: pathlib.Path, view: View) -> dict:
  """The summary of one run."""
  config = digits.get_config()
  config.seed, config.data.views = seed, views
  config.ensemble = str(folder / "ensemble")
  return commands.run(config, folder / str(views) / str(seed), view)


def main() -> None:
  """Teaches once, then runs every number of views and seed."""
  folder, view = pathlib.Path(WORKDIR.value), View()
  commands.teach(digits.get_config(), folder, view)
  # Seed by seed: what else the machine does meets every row alike.
  runs = {
    (seed, k): student(k, seed, folder, view) for seed in SEEDS for k in VIEWS
  }
  accuracy = {
    k: [100 * runs[s, k]["student"]["test_accuracy"] for s in SEEDS]
    for k in VIEWS
  }
  table = Table("views", "test accuracy", "against unlimited", "seconds")
  lines = {}
  for k in VIEWS:
    own = paired.line(accuracy[k], accuracy[0])
    seconds = [runs[s, k]["seconds"]["distill"] for s in SEEDS]
    lines[str(k)] = {**own, "seconds": seconds}
    table.add_row(
      str(k or "unlimited"),
      *paired.cells(own),
      f"{statistics.median(seconds):.0f}",
    )
  view.console.print(table)
  files.write_json(folder / "views.json", lines)


if __name__ == "__main__":
  flags.FLAGS(sys.argv)
  main()
