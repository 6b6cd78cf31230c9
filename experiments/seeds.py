"""Five students in one program, against five lone steps.

    python experiments/seeds.py --config=cifar --config.batch_size=32
    python experiments/seeds.py --config=digits --image=8x8x1

The student's update of a config with `data.views`, on random images and kept
outputs of random teachers: one program of five students, and the program of one
five times, in turn. Prints the milliseconds of both, their ratio, and what
compiling takes, and writes them to seeds.json in the workdir.
"""

import sys
import time
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from amtml_jax import bench, cli, config, files, measure
from amtml_jax.errors import UserError
from amtml_jax.measure import Side
from amtml_jax.pieces import Pieces
from amtml_jax.plan import Plan

SEEDS = 5


def side(made: Pieces, settings: ConfigDict, seeds: int) -> tuple[Side, float]:
  """Five students' step, in one program or in five calls; compile seconds."""
  own = settings.copy_and_resolve_references()
  own.seeds, own.data.views = seeds, 1
  plan = Plan(config.resolve(own), made.splits, made.plan.ensemble)
  plan.taught = made.taught(resident=True)
  stage, feed = plan.stages[0], plan.feed()
  step = plan.lift(stage, 1)
  fed, epochs = feed.next(0, 1)
  asks = plan.replicas.each(np.zeros(2, np.int32))
  rest = ((), feed.shared, fed, epochs, np.int32(1), asks)
  calls = SEEDS // seeds
  states = [plan.start() for _ in range(calls)]
  start = time.perf_counter()
  states[0], *_ = jax.block_until_ready(step(states[0], *rest))
  seconds = time.perf_counter() - start

  def call() -> Any:
    for k in range(calls):
      states[k], parts, _ = step(states[k], *rest)
    return parts

  return Side(f"{seeds} in a program", call, overlaps=False), seconds


def main() -> None:
  """Measures and prints."""
  values = cli.parse(sys.argv, **bench.FLAGS)
  if values.config is None:
    raise UserError("--config is missing, such as --config=cifar")
  asked = bench.options(values)
  made = Pieces(
    values.config,
    classes=asked.classes,
    shape=asked.image,
    rounds=asked.rounds,
  )
  together, first = side(made, made.settings, SEEDS)
  lone, alone = side(made, made.settings, 1)
  measure.alternate([together, lone], asked.rounds)
  ratio = measure.ratio(together, lone)
  table = Table("", "five students' step", "compiling, first step")
  table.add_row(
    "in one program", f"{1e3 * together.median:.0f} ms", f"{first:.1f} s"
  )
  table.add_row(
    "five lone steps", f"{1e3 * lone.median:.0f} ms", f"{alone:.1f} s"
  )
  Console().print(table)
  print(f"together / lone {ratio:.2f}")
  if asked.output:
    files.write_json(
      asked.output.with_name("seeds.json"),
      {
        "together": together.seconds,
        "lone": lone.seconds,
        "ratio": ratio,
        "compile": [first, alone],
      },
    )


if __name__ == "__main__":
  try:
    main()
  except UserError as error:
    sys.exit(f"seeds: {error}")
