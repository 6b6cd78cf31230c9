"""What each part of AMTML-KD adds.

    amtml sweep --experiment=ablation --workdir=runs/ablation
    amtml report runs/ablation

From KD under even weights (`avgmkd`) over learned weights (`amtml_weights`) and
one term more (`amtml_angle`, `amtml_hint`) to all (`amtml`), and beyond it the
term that gives the weights a reason: `amtml + mixture`, and `amtml_mix`, where
the adapter's gradient does not reach the student. `:data=fashion_mnist` for
another data set. In the workdir of compare_methods one of the runs is new.
"""

from ml_collections import ConfigDict

from amtml_jax.defaults import arguments
from amtml_jax.experiments import bases, comparison
from amtml_jax.tables import Table

SEEDS = range(5)
STEPS = ("avgmkd", "amtml_weights", "amtml_angle", "amtml_hint", "amtml")
RUNS = {
  **{method: {"method": method} for method in STEPS},
  "amtml + mixture": {"method": "amtml", "terms.mixture": 3.0},
  "amtml_mix": {"method": "amtml_mix"},
}


def get_config(text: str = "") -> ConfigDict:
  """The base; `text` is what follows the colon of --experiment."""
  return bases.base(arguments(text, data="digits")["data"])


def tabulate(results: comparison.Results) -> list[Table]:
  """The runs, and how far their weights are from even."""
  rows = []
  for run, cells in results.items():
    entropy = comparison.scores(cells, "weights_entropy", scale=1.0)
    rows.append((run, comparison.shown(entropy, 3)))
  return [
    comparison.table("Parts of the objective", results, "avgmkd"),
    Table(
      "The teachers' weights",
      ("run", "mean entropy"),
      rows,
      notes=("In nats, on the test split; even weights of 3: log 3 = 1.099.",),
    ),
  ]
