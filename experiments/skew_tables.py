"""Methods × skews, in short and in full: the tables of specialists."""

import dataclasses
from collections.abc import Sequence

from amtml_jax.experiments import comparison
from amtml_jax.tables import Table

REFERENCE = "avgmkd"
REFERENCES = (REFERENCE, "amtml")
ORACLE = "Oracle: a right teacher whenever there is one."
WAY = (
  "Way: how much of the way from the even mixture's accuracy to the oracle's "
  "the learned mixture covers, in percent, below 0 where it is worse than even "
  "weights; told where the oracle is a point or more above these."
)
UNTAUGHT = ("alone", "dml")  # have no teachers, and so no skew
LEAST = 1.0  # points between even weights and the oracle, for a way to be told
BySkew = dict[str, comparison.Results]


def run(method: str, skew: str) -> str:
  """What a method's run is called: METHOD SKEW, or METHOD alone."""
  return method if method in UNTAUGHT else f"{method} {skew}"


def tables(results: comparison.Results, methods: Sequence[str]) -> list[Table]:
  """Of runs that `run` names."""
  named = (name.split() for name in results)
  skews = sorted({words[1] for words in named if words[1:]}, key=float)
  by_skew = {
    skew: {m: results.get(run(m, skew), ()) for m in methods} for skew in skews
  }
  each = (
    dataclasses.replace(
      comparison.table(f"Skew {skew}", own, REFERENCE),
      of=[(run(m, skew),) for m in own],
    )
    for skew, own in by_skew.items()
  )
  whole = (
    dataclasses.replace(
      table, of=[comparison.runs_of(results, row[0]) for row in table.rows]
    )
    for table in (
      *(_gains(by_skew, reference) for reference in REFERENCES),
      _ways(by_skew),
    )
  )
  return [*whole, *each, _heard(by_skew)]


def _gains(by_skew: BySkew, reference: str) -> Table:
  """What each gains over one of them."""
  rows, groups = {}, {f"skew {skew}": {} for skew in by_skew}
  for skew, own in by_skew.items():
    beside = comparison.accuracy(own[reference])
    for method, cells in own.items():
      mine = comparison.accuracy(cells)
      if mine:
        groups[f"skew {skew}"][method] = comparison.mean_std(mine)
      gain, p = comparison.difference(mine, beside)
      said = gain if p is None else f"{gain} (p {p})"
      row = rows.setdefault(method, [method])
      row.append(comparison.shown(mine) if method == reference else said)
  note = (
    f"{reference}: test accuracy in percent, mean ± standard deviation over "
    "seeds. The others: the mean of the paired differences to it in points, "
    "and p of the two-sided paired t-test."
  )
  columns = ("method", *groups)
  unit = "test accuracy, %"
  made = [tuple(row) for row in rows.values()]
  title = f"Gain over {reference} by skew"
  bars = groups if reference == REFERENCE else {}  # they are the same
  return Table(title, columns, made, (note,), bars, unit)


def _ways(by_skew: BySkew) -> Table:
  """How far each mixture comes."""
  rows = {}
  for own in by_skew.values():
    for method, cells in own.items():
      if method not in (*UNTAUGHT, REFERENCE):
        rows.setdefault(method, [method]).append(comparison.shown(way(cells)))
  columns = ("method", *(f"skew {skew}" for skew in by_skew))
  made = [tuple(row) for row in rows.values()]
  return Table("Way to the oracle by skew", columns, made, (f"{ORACLE} {WAY}",))


def _heard(by_skew: BySkew) -> Table:
  """What the way is made of."""
  rows = [
    (f"{method} {skew}", *_listening(cells))
    for skew, own in by_skew.items()
    for method, cells in own.items()
    if method not in UNTAUGHT
  ]
  note = (
    f"In percent, on the test split. {ORACLE} {WAY} Weight on right: on the "
    "teachers that are right, over all images; the oracle's accuracy at most."
  )
  columns = ("run", "even", "mixture", "oracle", "way", "weight on right")
  return Table("Who is heard", columns, rows, (note,))


def way(cells: comparison.Cells) -> dict[int, float]:
  """By seed how much of the way to the oracle a learned mixture covers, in %.

  Of seeds under teachers whose even mixture leaves `LEAST` points to it.
  """
  even, mixture, oracle = _mixtures(cells)
  return {
    seed: 100 * (mixture[seed] - even[seed]) / (oracle[seed] - even[seed])
    for seed in mixture
    if oracle[seed] - even[seed] >= LEAST
  }


def _mixtures(cells: comparison.Cells) -> tuple[dict[int, float], ...]:
  """Accuracies by seed: of even weights, of learned ones, of the oracle."""
  return (
    comparison.scores(cells, "ensemble", "uniform", "test_accuracy"),
    comparison.scores(cells, "ensemble", "adaptive", "test_accuracy"),
    comparison.scores(cells, "some_teacher_right"),
  )


def _listening(cells: comparison.Cells) -> tuple:
  right = comparison.scores(cells, "weight_on_right")
  return tuple(map(comparison.shown, (*_mixtures(cells), way(cells), right)))
