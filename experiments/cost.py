"""What a step of every method costs: time and memory.

    amtml sweep --experiment=cost --workdir=runs/cost
    amtml report runs/cost

Nothing is trained: images and teachers are random (pieces.py). Each method has
its turns between those of the student alone, so that a machine that slows down
slows both; `alone` beside another of itself tells how far to believe a ratio.
`:data=cifar100` times the paper's networks; also any other of bases.py.
"""

import pathlib

import jax
from ml_collections import ConfigDict

from amtml_jax import measure, methods
from amtml_jax.experiments import comparison, model_size
from amtml_jax.pieces import Pieces
from amtml_jax.progress import View
from amtml_jax.tables import Table

TEACH = False
ALONE = "alone"
# Peers are several students: a step of theirs is no student's.
RUNS = {m: {"method": m} for m in methods.METHODS if m != "dml"}
ROUNDS = 7
# Teachers heard in every step; and what they say of data.views, kept.
NAMES = ("step", "kept")

get_config = model_size.get_config


def run(settings: ConfigDict, workdir: pathlib.Path, view: View) -> dict:
  """Times one method's step in turn with the student's alone."""
  del workdir, view
  made = _pieces(settings)
  sides = [made.side(n) for n in NAMES if n in made.names]
  beside = settings.copy_and_resolve_references()
  beside.method = ALONE
  other = _pieces(beside).side("step")
  other.name = ALONE
  measure.alternate([*sides, other], ROUNDS)
  cpu = jax.default_backend() == "cpu"
  measured = {
    side.name: {
      "seconds": side.median,
      "turns": side.seconds,
      "images_per_second": made.run.batch_size / side.median,
      "over_alone": measure.ratio(side, other),
      "held_mb": made.compiled[side.name]["held_mb"],
      "host_mb": measure.peak_added(lambda s=side: s.turn(1)) if cpu else None,
    }
    for side in sides
  }
  return {
    "devices": made.plan.replicas.describe(made.run.batch_size),
    "alone_turns": other.seconds,
    "measured": measured,
  }


def _pieces(settings: ConfigDict) -> Pieces:
  shape, classes = model_size.images(settings)
  return Pieces(settings, classes=classes, shape=shape, rounds=ROUNDS)


def tabulate(results: comparison.Results) -> list[Table]:
  """Methods × time and memory, teachers heard in the step or kept."""
  columns = ("ms a step", "images/s", "ratio", "held MB", "host MB")
  rows, bars = [], {name: {} for name in NAMES}
  where = set()
  for run, cells in results.items():
    row = []
    for name in NAMES:
      own = cells[0]["result"]["measured"].get(name) if cells else None
      row += _line(own)
      if own:
        bars[name][run] = (own["over_alone"], 0.0)
    where |= {cell["result"]["devices"] for cell in cells}
    rows.append((run, *row))
  return [
    Table(
      "Cost of a step",
      ("method", *columns, *(f"{column}, kept" for column in columns)),
      rows,
      notes=(
        "Medians over turns; ratio: the median of a turn's time by that of "
        "the student alone beside it, measured in turn. Kept: the step reads "
        "what the teachers said once (data.views). Held: all that the compiled "
        "step keeps on a device at its peak, data and weights with it, as XLA "
        "plans it. Host: what a CPU's process grows by at the peak of a turn.",
        *sorted(where),
      ),
      bars={name: own for name, own in bars.items() if own},
      unit="time of a step by that of the student alone",
    )
  ]


def _line(measured: dict | None) -> list:
  if measured is None:
    return [None] * 5
  host = measured["host_mb"]
  return [
    f"{1000 * measured['seconds']:.1f}",
    f"{measured['images_per_second']:.0f}",
    f"{measured['over_alone']:.2f}",
    f"{measured['held_mb']:.1f}",
    None if host is None else f"{host:.1f}",
  ]
