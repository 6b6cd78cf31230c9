"""Which teacher's feature map guides which stage of the student.

    amtml sweep --experiment=hint_mapping --workdir=runs/hint_mapping
    amtml report runs/hint_mapping

The better teacher gets the deeper stage, or the shallower one, or chance has
it (another choice for every seed would move two things at once: `random` is
drawn by hint.seed, here one that draws, of three stages, neither of the two).
`:data=fashion_mnist` for another data set.
"""

from ml_collections import ConfigDict

from amtml_jax.defaults import arguments
from amtml_jax.experiments import bases, comparison
from amtml_jax.tables import Table

SEEDS = range(5)
RUNS = {
  "no hints": {"terms.hint": 0.0},
  "better_high": {"hint.mapping": "better_high"},
  "better_low": {"hint.mapping": "better_low"},
  "random": {"hint.mapping": "random", "hint.seed": 7},
}


def get_config(text: str = "") -> ConfigDict:
  """The base; `text` is what follows the colon of --experiment."""
  return bases.base(arguments(text, data="digits")["data"])


def tabulate(results: comparison.Results) -> list[Table]:
  """The mappings beside the paper's."""
  return [comparison.table("Mapping of hints", results, "better_high")]
