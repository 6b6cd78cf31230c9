"""Which lift is faster: pmap, or jit over sharded arrays.

    python experiments/lifts.py --devices=1
    python experiments/lifts.py --config=cifar --devices=0

One whole distillation step of a config, teachers of random weights, under both
lifts: blocks of steps, the two sides in turn. Prints the median milliseconds a
step, their ratio, and the seconds to the first step's end (with compilation).
Fake devices of a CPU: XLA_FLAGS=--xla_force_host_platform_device_count=4.
"""

import statistics
import sys
import time

import jax
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from amtml_jax import cli, commands, config, ensemble
from amtml_jax.plan import Plan

LIFTS = ("pmap", "jit")


class Side:
  """One lift, ready to step."""

  def __init__(self, settings: ConfigDict, lift: str):
    settings.parallel = lift
    run = config.resolve(settings)
    data = commands.load(run.data)
    runs = [config.teacher(settings, spec) for spec in run.teachers]
    shapes = ensemble.untrained(runs, data.train, data.mean, data.std)
    key, image = jax.random.key(0), data.train.image.shape[1:]
    teachers = ensemble.Ensemble(
      shapes.teachers,
      tuple(t.network(run.dtype).init(key, image) for t in shapes.teachers),
    )
    self.plan = Plan(run, data, teachers)
    self.feed = self.plan.feed()
    self.update = self.plan.lift(self.plan.stages[0], self.feed.limit)
    self.state, self.step, self.times = self.plan.start(), 0, []

  def block(self, dispatches: int) -> float:
    """Milliseconds a step over so many dispatches."""
    start, asks = time.perf_counter(), jax.numpy.zeros(2, "int32")
    for _ in range(dispatches):
      fed, epochs = self.feed.next(self.step, self.feed.limit)
      self.state, parts, _ = self.update(
        *(self.state, self.plan.teachers, self.feed.shared, fed, epochs),
        *(self.feed.limit, self.plan.replicas.each(asks)),
      )
      self.step += self.feed.limit
    jax.block_until_ready(parts)
    steps = dispatches * self.feed.limit
    return 1000 * (time.perf_counter() - start) / steps


def main() -> None:
  """Measures and prints."""
  argv = list(sys.argv)
  if not any(a.startswith("--config") for a in argv):
    argv.append("--config=digits")
  values = cli.parse(
    argv, workdir="", devices="0", blocks="10", dispatches="20"
  )
  values.config.devices = int(values.devices)
  sides = {lift: Side(values.config, lift) for lift in LIFTS}
  first = {}
  for lift, side in sides.items():
    first[lift] = side.block(1) * side.feed.limit / 1000
  for _ in range(int(values.blocks)):
    for side in sides.values():
      side.times.append(side.block(int(values.dispatches)))
  plan = sides["pmap"].plan
  table = Table(
    "lift",
    "ms a step",
    "first, s",
    title=plan.replicas.describe(plan.run.batch_size),
  )
  medians = {lift: statistics.median(s.times) for lift, s in sides.items()}
  for lift, own in medians.items():
    table.add_row(lift, f"{own:.2f}", f"{first[lift]:.1f}")
  ratios = [
    b / a for a, b in zip(*(s.times for s in sides.values()), strict=True)
  ]
  table.caption = f"jit / pmap: {statistics.median(ratios):.3f}"
  Console().print(table)


if __name__ == "__main__":
  main()
