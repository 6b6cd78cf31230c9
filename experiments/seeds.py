"""Five students in one program, against five lone runs.

    python experiments/seeds.py --workdir=runs/seeds

Digits, AMTML-KD with all terms, four views whose teachers' outputs are kept
before the clock starts; the lone runs and the program take turns. Prints the
time of each, from the command's start to its summary, and how far the students'
accuracies are apart, and writes them to seeds.json in the workdir.
"""

import pathlib
import statistics
import sys
import time

from absl import flags
from rich.table import Table

from amtml_jax import commands, files
from amtml_jax.configs import digits
from amtml_jax.progress import View

WORKDIR = flags.DEFINE_string("workdir", "runs/seeds", "where to write")
STUDENT = flags.DEFINE_string("student", "", "another than the config's")
SEEDS = 5


def timed(
  seed: int, seeds: int, folder: pathlib.Path, view: View, epochs: int = 0
) -> tuple[float, dict]:
  """Seconds and summary of one run, of one student or of all."""
  config = digits.get_config()
  config.student = STUDENT.value or config.student
  config.seed, config.seeds, config.data.views = seed, seeds, 4
  config.epochs = epochs or config.epochs
  config.ensemble = str(folder / "ensemble")
  name = f"{seeds}-{seed}" if not epochs else f"first-{seeds}"
  start = time.monotonic()
  summary = commands.run(config, folder / name, view)
  return time.monotonic() - start, summary


def main() -> None:
  """Teaches once, hears the teachers, then times every run."""
  folder, view = pathlib.Path(WORKDIR.value), View()
  if (folder / f"{SEEDS}-0").exists():
    sys.exit(f"{folder} holds finished runs, which take no time; remove it")
  commands.teach(digits.get_config(), folder, view)
  for seeds in (1, SEEDS):  # keeps the outputs, and compiles both programs
    timed(0, seeds, folder, view, epochs=1)
  lone = [timed(seed, 1, folder, view) for seed in range(SEEDS)]
  seconds, summary = timed(0, SEEDS, folder, view)
  each = [seconds for seconds, _ in lone]
  apart = [
    abs(own["student"]["test_accuracy"] - alone["student"]["test_accuracy"])
    for own, (_, alone) in zip(summary["seeds"], lone, strict=True)
  ]
  result = {
    "together_seconds": seconds,
    "lone_seconds": each,
    "ratio": seconds / sum(each),
    "accuracies_apart": apart,
  }
  table = Table("", "seconds")
  table.add_row(f"{SEEDS} lone runs", f"{sum(each):.0f}")
  table.add_row("the median of them", f"{statistics.median(each):.0f}")
  table.add_row(f"{SEEDS} students in one program", f"{seconds:.0f}")
  view.console.print(table)
  view.say(
    f"together / lone {result['ratio']:.2f}; accuracies at most "
    f"{max(apart):.2%} apart"
  )
  files.write_json(folder / "seeds.json", result)


if __name__ == "__main__":
  flags.FLAGS(sys.argv)
  main()
