"""Settings of each method, chosen on held-out images: eight trials a method.

    amtml sweep --experiment=tuning --workdir=runs/tuning
    amtml report runs/tuning

Under the specialists of one skew (`:data=fashion_mnist,skew=0.97`; digits).
Every method gets the same trials, the first of which is its preset; a setting
that it has no use for changes nothing. Chosen by the mean validation accuracy
of seeds that no other experiment has. What was chosen stands in tuned.py.
"""

from ml_collections import ConfigDict

from amtml_jax import methods
from amtml_jax.defaults import arguments
from amtml_jax.experiments import comparison, skew_tables, specialists
from amtml_jax.tables import Table

SEEDS = (5, 6, 7)
METHODS = tuple(m for m in specialists.METHODS if m not in skew_tables.UNTAUGHT)
SETTINGS = (
  *("kd.temperature", "kd.ratio", "adapter.learning_rate"),
  *("terms.angle", "terms.hint", "terms.mixture"),
  "adapter.evidence_temperature",
)
TRIALS = (  # after the preset
  (2.0, 0.7, 0.1, 0.1, 0.01, 3.0, 2.0),
  (2.0, 0.5, 0.03, 0.01, 0.001, 10.0, 5.0),
  (5.0, 0.5, 0.1, 0.1, 0.001, 10.0, 2.0),
  (5.0, 0.9, 0.03, 0.1, 0.01, 1.0, 2.0),
  (10.0, 0.7, 0.1, 0.01, 0.01, 10.0, 5.0),
  (10.0, 0.5, 0.03, 1.0, 0.001, 3.0, 1.0),
  (2.0, 0.9, 0.1, 0.01, 0.1, 10.0, 2.0),
)
NUMBERS = range(1 + len(TRIALS))
# Of these adapters' settings the others know nothing.
_OF = {
  "adapter.learning_rate": ("latent", "gate", "log_gate"),
  "adapter.evidence_temperature": ("gate",),
}

teach = specialists.teach


def _read(text: str) -> dict:
  read = arguments(text, data="fashion_mnist", skew="0.97")
  specialists.skews(read["skew"])
  return read


def get_config(text: str = "") -> ConfigDict:
  """The base; `text` is what follows the colon of --experiment."""
  read = _read(text)
  return specialists.get_config(f"data={read['data']},skews={read['skew']}")


def trials(method: str) -> list[dict[str, float]]:
  """What each trial changes of what the method has a use for."""
  preset = methods.METHODS[method]

  def used(key: str) -> bool:
    section, _, name = key.partition(".")
    if section == "terms":
      return name in preset["terms"]
    return preset["adapter"] in _OF.get(key, (preset["adapter"],))

  named = [dict(zip(SETTINGS, trial, strict=True)) for trial in TRIALS]
  return [{}, *({k: v for k, v in t.items() if used(k)} for t in named)]


def get_runs(text: str = "") -> dict[str, dict]:
  """Methods × trials; the second word of a run is its teachers' skew."""
  return {
    f"{method} {_read(text)['skew']} {number}": {"method": method, **changes}
    for method in METHODS
    for number, changes in enumerate(trials(method))
  }


def tabulate(results: comparison.Results) -> list[Table]:
  """Each method's trials, and the best one's settings."""
  rows = []
  for method in METHODS:
    own = {
      int(run.split()[2]): comparison.scores(
        cells, "student", "validation_accuracy"
      )
      for run, cells in results.items()
      if run.split()[0] == method
    }
    scores = {n: comparison.mean_std(v)[0] for n, v in own.items() if v}
    # Half a sweep has trials of fewer seeds: they stand for nothing yet.
    most = max(map(len, own.values()), default=0)
    whole = [n for n in sorted(scores) if len(own[n]) == most]
    best = max(whole, key=scores.get, default=None)
    chosen = None if best is None else _shown(trials(method)[best])
    told = (f"{scores[n]:.2f}" if n in scores else None for n in NUMBERS)
    rows.append((method, *told, chosen))
  note = "Validation accuracy in percent, by trial; 0: the preset."
  columns = ("method", *map(str, NUMBERS), "the best one's settings")
  of = [comparison.runs_of(results, method) for method in METHODS]
  return [Table("Trials", columns, rows, (note,), of=of), _settings()]


def _settings() -> Table:
  """What the trials are, for methods with a use for all of it."""
  rows = [
    (str(number), *(f"{value:g}" for value in trial))
    for number, trial in enumerate(TRIALS, start=1)
  ]
  columns = ("trial", *SETTINGS)
  return Table("Settings of the trials", columns, rows, measured=False)


def _shown(settings: dict[str, float]) -> str:
  return " ".join(f"{k}={v:g}" for k, v in settings.items()) or "the preset's"
