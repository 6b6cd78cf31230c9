"""Every departure of the authors' notebooks from their paper, alone.

    amtml sweep --experiment=notebook_vs_paper --workdir=runs/notebook
    amtml report runs/notebook

Digits, seeds 0 to 4: AMTML-KD as published, with one departure each, and with
all of them (`amtml_notebook`). A departure is one switch of the preset; those
of `TOGETHER` are several, of which none says much without the others.
`:data=fashion_mnist` for another data set.
"""

from typing import Any

from ml_collections import ConfigDict

from amtml_jax.defaults import arguments
from amtml_jax.experiments import bases, comparison
from amtml_jax.methods import METHODS
from amtml_jax.tables import Table

SEEDS = range(5)
PAPER, NOTEBOOK = "amtml", "amtml_notebook"
TOGETHER = {
  # The paper has no such term, so that its switch alone would do nothing.
  "distance term": ("terms.distance", "distance.log_student"),
  # The notebooks' teachers teach one place with one place.
  "hints at the middle": ("hint.mapping", "hint.teacher_stage"),
}


def departures(ratio: float) -> dict[str, Any]:
  """What the notebooks' preset has otherwise than the paper's, by key.

  Args:
    ratio: λ.
  """
  own, paper = METHODS[NOTEBOOK], METHODS[PAPER]
  # As config.resolve reads the words of a preset.
  numbers = {"ratio": ratio, "double": 2 * ratio, "rest": 1 - ratio}
  terms = {
    f"terms.{name}": numbers.get(weight, weight)
    for name, weight in own["terms"].items()
    if paper["terms"].get(name) != weight
  }
  return {**terms, **own["settings"]}


def get_config(text: str = "") -> ConfigDict:
  """The base; `text` is what follows the colon of --experiment."""
  return bases.base(arguments(text, data="digits")["data"])


def get_runs(text: str = "") -> dict[str, dict]:
  """The paper's, one run a departure, the notebooks'."""
  left = departures(get_config(text).kd.ratio)
  runs = {PAPER: {}}
  for name, keys in TOGETHER.items():
    runs[name] = {key: left.pop(key) for key in keys}
  runs |= {f"{key} = {value}": {key: value} for key, value in left.items()}
  named = {run: {"method": PAPER, **own} for run, own in runs.items()}
  return {**named, NOTEBOOK: {"method": NOTEBOOK}}


def tabulate(results: comparison.Results) -> list[Table]:
  """Each departure beside the paper."""
  return [comparison.table("Departures of the notebooks", results, PAPER)]
