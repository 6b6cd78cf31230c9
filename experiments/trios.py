"""Whether listening pays under other teachers: specialists taught five times.

    amtml sweep --experiment=trios --workdir=runs/trios
    amtml report runs/trios

The specialists of one skew (`:data=fashion_mnist,skew=0.97`; digits), from five
seeds of their own, on the same parts of the data: p of `specialists` knows the
students' seeds alone. Students of seeds 0 to 4 under each trio; what is tested
is the trios' means.
"""

import pathlib
import statistics

from ml_collections import ConfigDict

from amtml_jax.defaults import arguments
from amtml_jax.experiments import comparison, skew_tables, specialists
from amtml_jax.progress import View
from amtml_jax.tables import Table

SEEDS = range(5)
TRIOS = range(5)
_WEIGHTS = {"method": "amtml_weights"}
METHODS = {
  **{name: {"method": name} for name in ("avgmkd", "camkd", "amtml_weights")},
  # The paper's adapter with the authors' pull to even weights; rewarded.
  "amtml_weights+l2": {**_WEIGHTS, "adapter.l2": 0.1},
  "amtml_weights+mixture": {
    **_WEIGHTS,
    "terms.mixture": 3.0,
    "adapter.stop_gradient_representation": True,
  },
  **{name: {"method": name} for name in ("amtml", "gate", "log_gate")},
}
ALONE = "alone"  # under no trio


def read(text: str) -> dict:
  """What follows the colon of --experiment."""
  return arguments(text, data="fashion_mnist", skew="0.97")


def get_config(text: str = "") -> ConfigDict:
  """The base; `text` is what follows the colon of --experiment."""
  own = read(text)
  return specialists.get_config(f"data={own['data']},skews={own['skew']}")


def get_runs(text: str = "") -> dict[str, dict]:
  """Methods × trios, of one skew; the student alone has none."""
  skew, runs = read(text)["skew"], {ALONE: {"method": ALONE}}
  for method, own in METHODS.items():
    for trio in TRIOS:
      runs[f"{method} {skew} {trio}"] = {**own, "teacher.seed": trio}
  return runs


def teach(
  run: str, settings: ConfigDict, workdir: pathlib.Path, view: View
) -> pathlib.Path:
  """The ensemble of a run's trio."""
  place = workdir / str(settings.teacher.seed)
  return specialists.teach(run, settings, place, view)


def tabulate(results: comparison.Results) -> list[Table]:
  """What each method gains under every trio, and how well it listens."""
  return [_gained(results, of) for of in skew_tables.REFERENCES]


def _gained(results: comparison.Results, reference: str) -> Table:
  """Beside one of the methods."""
  by_trio = _by_trio(results)
  beside, rows, bars = by_trio.get(reference, {}), [], {}
  for method, own in by_trio.items():
    means = _means({t: comparison.accuracy(cells) for t, cells in own.items()})
    ways = _means({t: skew_tables.way(cells) for t, cells in own.items()})
    if means:
      bars[method] = comparison.mean_std(means)
    each = {trio: comparison.shown({trio: means[trio]}) for trio in means}
    whole = (comparison.shown(means), None)
    if method != reference:
      gained = _means({t: _gains(own[t], beside.get(t, ())) for t in own})
      zero = dict.fromkeys(gained, 0.0)
      each = {t: comparison.difference({t: gained[t]}, zero)[0] for t in gained}
      whole = comparison.difference(gained, zero)
    told = (each.get(trio) for trio in TRIOS)
    rows.append((method, *told, *whole, comparison.shown(ways)))
  return Table(
    f"Gain over {reference} by trio",
    ("method", *(f"trio {trio}" for trio in TRIOS), "mean", "p", "way"),
    rows,
    notes=(
      f"{reference}: test accuracy in percent, mean over seeds. The others: "
      "the mean over seeds of the differences to it, in points; p of the "
      "two-sided paired t-test of the trios' means. "
      f"{skew_tables.ORACLE} {skew_tables.WAY} Mean ± standard deviation "
      "over trios.",
    ),
    bars={"test accuracy": bars} if reference == skew_tables.REFERENCE else {},
    unit="test accuracy, %",
    of=[comparison.runs_of(results, method) for method in by_trio],
  )


def _by_trio(
  results: comparison.Results,
) -> dict[str, dict[int, comparison.Cells]]:
  """By method and trio; whoever listens to no trio stands by every one."""
  found: dict[str, dict[int, comparison.Cells]] = {}
  for run, cells in results.items():
    method, *of = run.split()
    trios = (int(of[-1]),) if of else TRIOS
    found.setdefault(method, {}).update(dict.fromkeys(trios, cells))
  return found


def _gains(own: comparison.Cells, beside: comparison.Cells) -> dict[int, float]:
  return comparison.gains(comparison.accuracy(own), comparison.accuracy(beside))


def _means(values: dict[int, dict[int, float]]) -> dict[int, float]:
  """Over seeds, of the trios that have any."""
  return {t: statistics.mean(of.values()) for t, of in values.items() if of}
