"""What each part of AMTML-KD adds.

    amtml sweep --experiment=ablation --workdir=runs/ablation
    amtml report runs/ablation

From KD under even weights to the whole objective, and beyond it the term that
gives the weights a reason; held: the adapter's gradient does not reach the
student, as in `amtml_mix`. `:data=fashion_mnist` for another data set.
"""

from ml_collections import ConfigDict

from amtml_jax.defaults import arguments
from amtml_jax.experiments import bases, comparison
from amtml_jax.tables import Table

SEEDS = range(5)
RUNS = {
  "KD": {"method": "avgmkd"},
  "KD + weights": {"method": "amtml_weights"},
  "KD + weights + angle": {"method": "amtml_angle"},
  "KD + weights + hints": {"method": "amtml_hint"},
  "all": {"method": "amtml"},
  "all + mixture": {"method": "amtml", "terms.mixture": 3.0},
  "all + mixture, held": {"method": "amtml_mix"},
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
    comparison.table("Parts of the objective", results, "KD"),
    Table(
      "The teachers' weights",
      ("run", "mean entropy"),
      rows,
      notes=("In nats, on the test split; even weights of 3: log 3 = 1.099.",),
    ),
  ]
