"""What the experiments' tables are made of, against numbers made elsewhere."""

import itertools

import pytest

from amtml_jax import config, experiment, loading
from amtml_jax.errors import UserError
from amtml_jax.losses import hint
from amtml_jax.methods import METHODS
from experiments import comparison, trios, tuned, tuning


def cells(values):
  return [
    {
      "seed": seed,
      "result": {"student": {"test_accuracy": v, "test_agreement": 0.5}},
    }
    for seed, v in values.items()
  ]


def test_mean_and_standard_deviation_by_hand():
  # mean (90 + 92 + 97) / 3 = 93, deviations -3, -1, 4: 26 / 2 = 13, root 3.61
  own = comparison.accuracy(cells({0: 0.90, 1: 0.92, 2: 0.97}))
  assert comparison.shown(own) == "93.00 ± 3.61"
  assert comparison.shown({3: 90.0}) == "90.00"
  assert comparison.shown({}) is None


def test_the_paired_difference_by_hand():
  # Differences 1, 2, 3 of the common seeds: t = 2 / (1 / sqrt 3) = 3.464, and
  # with 2 degrees of freedom p = 1 - t / sqrt(2 + t²) = 1 - 3.464 / sqrt 14.
  own, beside = {0: 91.0, 1: 92.0, 2: 94.0, 9: 0.0}, {2: 91.0, 1: 90.0, 0: 90.0}
  assert comparison.difference(own, beside) == ("+2.00", "0.074")
  assert comparison.difference({0: 91.0}, {0: 90.0}) == ("+1.00", None)
  assert comparison.difference(beside, beside) == ("+0.00", None)
  assert comparison.difference({0: 1.0}, {1: 1.0}) == (None, None)


def test_a_table_of_what_is_there():
  results = {
    "even": cells({0: 0.9, 1: 0.8}),
    "mine": cells({1: 0.85}),
    "none": [],
  }
  made = comparison.table("x", results, "even")
  assert made.wrong() is None
  assert made.rows == [
    ("even", "85.00 ± 7.07", None, None, None, "50.00 ± 0.00", None),
    ("mine", "85.00", "+5.00", None, None, "50.00", None),
    ("none", None, None, None, None, None, None),
  ]
  assert made.bars["test accuracy"]["mine"] == (85.0, 0.0)


@pytest.mark.parametrize("name", loading.experiments())
def test_an_experiment_has_cells_and_tabulates_nothing_yet(name):
  found = experiment.load(name)
  made = found.cells(found.base)
  assert len(made) == len(found.runs) * max(len(found.seeds), 1)
  for table in found.module.tabulate({run: [] for run, _ in found.runs}):
    assert table.wrong() is None
  assert f"--experiment={name} " in found.module.__doc__


def test_every_method_is_compared_and_ones_own_joins_by_its_path():
  names = [run for run, _ in experiment.load("compare_methods").runs]
  assert sorted(names) == sorted(METHODS)
  path = "amtml_jax.adapters.confidence"
  found = experiment.load(f"compare_methods:also={path}")
  own = {c.run: c.settings for c in found.cells(found.base)}[path]
  assert own.adapter.name == path
  assert own.method == "avgmkd"


@pytest.mark.parametrize("also", ["gate", "my.one+my.one"])
def test_a_name_that_is_there_is_no_method_of_ones_own(also):
  with pytest.raises(UserError, match=r"also=.* is there already"):
    experiment.load(f"compare_methods:also={also}")


def test_in_the_workdir_of_all_methods_an_ablation_adds_one_run():
  runs = []
  for name in ("compare_methods", "ablation"):
    found = experiment.load(name)
    cells = found.cells(found.base, (0,))
    runs.append({c.run: c.settings.to_dict() for c in cells})
  methods, parts = runs
  assert set(parts) - set(methods) == {"amtml + mixture"}
  assert all(parts[run] == methods[run] for run in parts if run in methods)


def test_the_mappings_of_hints_are_three():
  found = experiment.load("hint_mapping")
  _, *own = [c.settings.hint for c in found.cells(found.base, (0,))]
  for best_first in itertools.permutations(range(3)):
    made = {hint.groups(h.mapping, best_first, 3, seed=h.seed) for h in own}
    assert len(made) == 3


def test_a_step_of_every_method_is_timed_but_of_peers():
  found = experiment.load("cost")
  runs = {c.run: config.resolve(c.settings) for c in found.cells(found.base)}
  assert set(METHODS) - set(runs) == {"dml"}
  assert {run.peers for run in runs.values()} == {1}


def test_students_see_a_part_of_fashion_mnist_or_all():
  part, whole = (
    experiment.load(f"compare_methods:data={data}").base
    for data in ("fashion_mnist", "fashion_mnist_all")
  )
  assert (part.data.labels_per_class, whole.data.labels_per_class) == (1000, 0)
  assert (part.data.views, whole.data.views) == (8, 4)
  assert (part.teacher.epochs, whole.teacher.epochs) == (3, 20)
  whole.data, whole.teacher = part.data, part.teacher
  assert whole == part
  with pytest.raises(UserError, match=r"data is one of .*, not fashion"):
    experiment.load("compare_methods:data=fashion")


def test_specialists_teach_by_every_method_but_by_attention():
  runs = dict(experiment.load("specialists:skews=0.9+1").runs)
  taught = set(METHODS) - {"at", "alone", "dml"}
  skewed = {f"{method} {skew}" for method in taught for skew in ("0.9", "1")}
  assert set(runs) == {"alone", "dml"} | skewed
  assert all(own["method"] == run.split()[0] for run, own in runs.items())


@pytest.mark.parametrize("name", ["specialists", "tuning", "trios"])
def test_data_without_specialists_is_refused(name):
  with pytest.raises(UserError, match="digits or fashion_mnist, not cifar10"):
    experiment.load(f"{name}:data=cifar10")


def test_every_method_is_tuned_alike():
  for method in tuning.METHODS:
    first, *others = tuning.trials(method)
    assert first == {}
    assert len(others) == 7
    # What a trial moves, all of them move.
    assert len({tuple(trial) for trial in others}) == 1
  assert set(tuning.trials("okd")[1]) == {"kd.temperature", "kd.ratio"}
  assert set(tuning.trials("gate")[1]) == {
    *("kd.temperature", "kd.ratio", "terms.mixture"),
    *("adapter.learning_rate", "adapter.evidence_temperature"),
  }


def test_the_best_trial_is_chosen_on_held_out_images():
  def scored(validation, test):
    student = {"validation_accuracy": validation, "test_accuracy": test}
    return [{"seed": 5, "result": {"student": student}}]

  results = {"okd 0.97 0": scored(0.7, 0.9), "okd 0.97 3": scored(0.8, 0.1)}
  made, settings = tuning.tabulate(results)
  assert len(settings.rows) == 7
  row = dict(zip(made.columns, made.rows[0], strict=True))
  assert row["method"] == "okd"
  assert (row["0"], row["3"], row["1"]) == ("70.00", "80.00", None)
  assert row["the best one's settings"] == "kd.temperature=5 kd.ratio=0.5"
  # A seed more of another trial: what has fewer stands for nothing yet.
  results["okd 0.97 0"] += [{**results["okd 0.97 0"][0], "seed": 6}]
  row = dict(
    zip(made.columns, tuning.tabulate(results)[0].rows[0], strict=True)
  )
  assert row["the best one's settings"] == "the preset's"


def test_settings_that_were_chosen_are_tried_ones_and_used(monkeypatch):
  for data, chosen in tuned.TUNED.items():
    assert set(chosen) == set(tuning.METHODS)
    for method, settings in chosen.items():
      assert settings in tuning.trials(method)
    found = experiment.load(f"specialists:data={data},skews=1,tuned=yes")
    assert dict(found.runs)["gate 1"] == {"method": "gate", **chosen["gate"]}
  monkeypatch.delitem(tuned.TUNED, "digits", raising=False)
  with pytest.raises(UserError, match=r"tuned\.py knows .*, not digits: run"):
    experiment.load("specialists:data=digits,tuned=yes")


def test_what_is_tested_of_trios_is_their_means():
  def cells(*accuracies):
    return [
      {"seed": seed, "result": {"student": {"test_accuracy": accuracy}}}
      for seed, accuracy in enumerate(accuracies)
    ]

  results = {
    "avgmkd 0.97 0": cells(0.80, 0.82),
    "avgmkd 0.97 1": cells(0.70, 0.72),
    "gate 0.97 0": cells(0.81, 0.83),
    "gate 0.97 1": cells(0.73, 0.75, 0.1),  # the last has no pair
    "gate 0.97 2": [],
  }
  made, beside = trios.tabulate(results)
  reference, row = (dict(zip(made.columns, r, strict=True)) for r in made.rows)
  assert (reference["trio 0"], reference["trio 1"]) == ("81.00", "71.00")
  assert (row["trio 0"], row["trio 1"], row["trio 2"]) == (
    *("+1.00", "+3.00"),
    None,
  )
  assert made.title == "Gain over avgmkd by trio"
  assert beside.title == "Gain over amtml by trio"
  assert all(value is None for row in beside.rows for value in row[1:8])
  # Two trios of gains 1 and 3: t = 2, one degree of freedom.
  assert (row["mean"], row["p"]) == ("+2.00", "0.295")


def test_a_trio_is_taught_from_its_own_seed():
  found = experiment.load("trios:data=digits,skew=0.9")
  cells = found.cells(found.base, (0,))
  cells = [c for c in cells if c.run != "alone"]
  seeds = {c.run.split()[2]: c.settings.teacher.seed for c in cells}
  assert seeds == {str(trio): trio for trio in range(5)}
