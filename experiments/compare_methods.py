"""Every method beside plain averaging of the teachers.

    amtml sweep --experiment=compare_methods --workdir=runs/compare_methods
    amtml report runs/compare_methods

Digits, seeds 0 to 4, under one ensemble. `:data=fashion_mnist` for another data
set, of which students see 10,000 images; `:data=fashion_mnist_all`, for an
accelerator, all. `:also=my.adapter` adds a weighting of yours by its module's
path (two with a + between them), with the terms of avgmkd.
"""

from ml_collections import ConfigDict

from amtml_jax.defaults import arguments
from amtml_jax.experiments import bases, comparison
from amtml_jax.tables import Table

METHODS = (
  *("alone", "okd", "fitnet", "at", "rkd", "dml", "avgmkd", "ebkd", "camkd"),
  *("amtml_weights", "amtml_angle", "amtml_hint", "amtml", "amtml_mix"),
  *("amtml_notebook", "gate", "log_gate"),
)
SEEDS = range(5)


def get_config(text: str = "") -> ConfigDict:
  """The base; `text` is what follows the colon of --experiment."""
  return bases.base(_read(text)["data"])


def get_runs(text: str = "") -> dict[str, dict]:
  """One run a method, and one a module of `also`."""
  own = {method: {"method": method} for method in METHODS}
  for path in filter(None, _read(text)["also"].split("+")):
    if path in own:
      raise ValueError(f"also={path} is there already")
    own[path] = {"method": "avgmkd", "adapter.name": path}
  return own


def _read(text: str) -> dict:
  return arguments(text, data="digits", also="")


def tabulate(results: comparison.Results) -> list[Table]:
  """Methods × accuracy, gain over averaging, calibration, agreement."""
  return [comparison.table("Methods", results, "avgmkd")]
