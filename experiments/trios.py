"""Whether listening pays under other teachers: specialists taught five times.

    amtml sweep --experiment=trios --workdir=runs/trios
    amtml report runs/trios

The specialists of one skew (`:data=fashion_mnist,skew=0.97`; digits), from five
seeds of their own: p of `specialists` knows the students' seeds alone. Students
of seeds 0 to 4 under each trio; what is tested is the trios' means.
"""

import pathlib
import statistics
from collections.abc import Callable

from ml_collections import ConfigDict

from amtml_jax.defaults import arguments
from amtml_jax.experiments import comparison, skew_tables, specialists
from amtml_jax.progress import View
from amtml_jax.tables import Table

SEEDS = range(5)
TRIOS = range(5)
METHODS = ("avgmkd", "amtml_weights", "amtml", "gate", "log_gate")


def _read(text: str) -> dict:
  return arguments(text, data="fashion_mnist", skew="0.97")


def get_config(text: str = "") -> ConfigDict:
  """The base; `text` is what follows the colon of --experiment."""
  read = _read(text)
  return specialists.get_config(f"data={read['data']},skews={read['skew']}")


def get_runs(text: str = "") -> dict[str, dict]:
  """Methods × trios, of one skew."""
  return {
    f"{method} {_read(text)['skew']} {trio}": {
      "method": method,
      "teacher.seed": trio,
    }
    for method in METHODS
    for trio in TRIOS
  }


def teach(
  run: str, settings: ConfigDict, workdir: pathlib.Path, view: View
) -> pathlib.Path:
  """The ensemble of a run's trio."""
  place = workdir / str(settings.teacher.seed)
  return specialists.teach(run, settings, place, view)


def tabulate(results: comparison.Results) -> list[Table]:
  """What each method gains under every trio, and how well it listens."""
  accuracy = _by_trio(results, comparison.accuracy)
  ways = _by_trio(results, skew_tables.way)
  reference = skew_tables.REFERENCE
  beside, rows = accuracy.get(reference, {}), []
  for method, own in accuracy.items():
    if method == reference:
      each = {trio: comparison.shown({trio: own[trio]}) for trio in own}
      whole = (comparison.shown(own), None)
    else:
      each = {t: comparison.difference({t: own[t]}, beside)[0] for t in own}
      whole = comparison.difference(own, beside)
    way = comparison.shown(ways.get(method, {}))
    rows.append((method, *(each.get(trio) for trio in TRIOS), *whole, way))
  return [
    Table(
      "Gain by trio of teachers",
      ("method", *(f"trio {trio}" for trio in TRIOS), "mean", "p", "way"),
      rows,
      notes=(
        f"{reference}: test accuracy in percent, mean over seeds. The others: "
        "the mean over seeds of the differences to it, in points; p of the "
        "two-sided paired t-test of the trios' means. "
        f"{skew_tables.ORACLE} {skew_tables.WAY} Mean ± standard deviation "
        "over trios.",
      ),
      bars={
        "test accuracy": {
          m: comparison.mean_std(v) for m, v in accuracy.items()
        }
      },
      unit="test accuracy, %",
    )
  ]


def _by_trio(
  results: comparison.Results,
  of: Callable[[comparison.Cells], dict[int, float]],
) -> dict[str, dict[int, float]]:
  """By method and trio the mean over seeds."""
  found: dict[str, dict[int, float]] = {}
  for run, cells in results.items():
    method, _, trio = run.split()
    values = of(cells)
    if values:
      means = found.setdefault(method, {})
      means[int(trio)] = statistics.mean(values.values())
  return found
