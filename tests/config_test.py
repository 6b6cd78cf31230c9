"""What a config leaves to its method, and what is refused."""

import functools
import importlib
import pathlib

import numpy as np
import pytest
from ml_collections.config_dict import required_placeholder

from amtml_jax import cli, config
from amtml_jax.defaults import arguments, defaults
from amtml_jax.errors import UserError
from tests.settings import blobs


def weights(settings):
  return {t.label: t.weight for t in config.resolve(settings).terms}


def test_the_defaults_are_the_papers():
  run = config.resolve(defaults())
  assert weights(defaults()) == pytest.approx(
    {"cross_entropy": 0.3, "kd": 0.7, "angle": 1.0, "hint": 1.0}
  )
  assert (run.temperature, run.epochs, run.batch_size) == (5.0, 200, 128)
  assert run.teachers == ("resnet32", "resnet56", "resnet110")
  assert run.adapter.settings == {
    "init_scale": 0.1,
    "pooling": "max",
    "stop_gradient_representation": False,
    "v_init_scale": 0.0,
  }
  assert (run.adapter.learning_rate, run.adapter.l2) == (0.01, 0.0)
  assert run.adapter.schedule == "joint"
  assert (run.optimizer.decay_all, run.student_init_std) == (False, 0.0)
  assert run.optimizer.weight_decay == 5e-4


def test_a_weight_of_ones_own_wins_and_zero_is_not_built():
  settings = blobs(terms__hint=0.0, terms__angle=2.0, kd__ratio=0.9)
  assert weights(settings) == pytest.approx(
    {"cross_entropy": 0.1, "kd": 0.9, "angle": 2.0}
  )


def test_a_term_of_ones_own_has_a_label_a_weight_and_settings():
  settings = blobs()
  with settings.unlocked():
    settings.terms.mine = 0.5
    settings.mine = {"plugin": "amtml_jax.losses.angle", "delta": 2.0}
  run = config.resolve(settings)
  mine = next(t for t in run.terms if t.label == "mine")
  assert mine.plugin == "amtml_jax.losses.angle"
  assert (mine.weight, mine.settings) == (0.5, {"delta": 2.0})


@pytest.mark.parametrize("mapping", ["3, 1,stage2", (3, 1, "stage2")])
def test_an_explicit_mapping(mapping):
  settings = blobs()
  with settings.ignore_type():
    settings.hint.mapping = mapping
  hint = next(t for t in config.resolve(settings).terms if t.label == "hint")
  assert hint.settings["mapping"] == (3, 1, "stage2")


@pytest.mark.parametrize(
  ("method", "adapter", "expected"),
  [
    ("alone", "uniform", {"cross_entropy": 1.0}),
    ("okd", "single", {"cross_entropy": 0.3, "kd": 0.7}),
    ("avgmkd", "uniform", {"cross_entropy": 0.3, "kd": 0.7}),
    (
      "rkd",
      "single",
      {"cross_entropy": 0.3, "kd": 0.7, "distance": 1.0, "angle": 2.0},
    ),
  ],
)
def test_methods(method, adapter, expected):
  settings = blobs(method=method)
  assert weights(settings) == pytest.approx(expected)
  assert config.resolve(settings).adapter.name == adapter


@pytest.mark.parametrize(
  ("stage", "expected"), [("2", 2), ("stage1", "stage1"), ("middle", "middle")]
)
def test_a_teachers_stage(stage, expected):
  settings = blobs(hint__teacher_stage=stage, hint__mapping="middle")
  hint = next(t for t in config.resolve(settings).terms if t.label == "hint")
  assert hint.settings["teacher_stage"] == expected
  assert hint.settings["mapping"] == "middle"


def test_none_in_a_term_of_ones_own_is_the_terms_default():
  settings = blobs()
  with settings.unlocked():
    settings.terms.mine = 0.5
    settings.mine = dict(
      plugin="hint", mapping=None, weighted=None, normalize=True
    )
  mine = next(t for t in config.resolve(settings).terms if t.label == "mine")
  assert mine.settings == {"normalize": True}


def test_two_stages_share_the_epochs():
  run = config.resolve(blobs(adapter__schedule="two_stage", epochs=10))
  one, two = run.phases()
  assert (one.first, one.last, two.first, two.last) == (0, 4, 4, 10)
  assert one.parts == ("student", "adapter", "terms")
  assert two.parts == ("student",)


def test_a_teacher_is_a_student_alone_with_a_seed_of_its_own():
  settings = blobs(data__labels_per_class=3, seed=5, teacher__seed=9)
  run = config.teacher(settings, "a=mlp_small")
  assert run.teachers == ()
  assert not run.needs_teachers
  assert [t.label for t in run.terms] == ["cross_entropy"]
  assert run.data.labels_per_class == 0
  assert run.optimizer.learning_rate == 0.02
  assert run.epochs == 8
  # zlib.crc32(b"a") = 3904355907
  assert run.seed == (9 + 3904355907) % 2**31
  with settings.unlocked():
    settings.seed, settings.epochs, settings.method = 6, 7, "okd"
    settings.kd.temperature, settings.adapter.l2 = 3.0, 0.1
  assert config.teacher(settings, "a=mlp_small") == run


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"method": "magic"}, "method='magic' is not known; known: alone, okd"),
    ({"kd__temperature": 0.0}, "kd.temperature=0.0 must be a number above 0"),
    ({"kd__ratio": 1.5}, "kd.ratio=1.5 .* of at least 0 and at most 1"),
    ({"terms__kd": -1.0}, "terms.kd=-1.0 must be a number of at least 0"),
    ({"optimizer__momentum": 1.0}, "optimizer.momentum=1.0"),
    ({"optimizer__schedule": "linear"}, "schedule='linear'"),
    ({"teacher__optimizer__decay": -1.0}, "teacher.optimizer.decay=-1.0"),
    ({"adapter__schedule": "both"}, "adapter.schedule='both'"),
    ({"adapter__schedule": "two_stage", "epochs": 1}, "epochs of at least 2"),
    (
      {
        "adapter__schedule": "two_stage",
        "adapter__name": "uniform",
        "terms__kd": 0.0,
        "terms__angle": 0.0,
        "terms__cross_entropy": 0.0,
      },
      "two_stage drops the hints",
    ),
    ({"teachers": ()}, "config.teachers is empty"),
    ({"student": "tests.nothing"}, "no model called 'tests.nothing'"),
    ({"student": "amtml_jax.models.resnet:x"}, "no network called 'x'"),
    ({"student": "amtml_jax.files"}, "is no model: it has no Model"),
    (
      {"method": "alone", "terms__cross_entropy": 0.0},
      "every weight in config",
    ),
  ],
)
def test_what_is_refused(changes, message):
  settings = blobs(**changes)

  def both():
    config.resolve(settings)
    config.teacher(settings, "cnn")

  with pytest.raises(UserError, match=message):
    both()


MISSING = object()
# What flags cannot bring in, but a config file can.
FORCED = {
  "epochs": {
    "two": r"config.epochs='two' must be a whole number of at least 1",
    True: "config.epochs=True must be",
    0: "config.epochs=0 must be a whole number of at least 1",
    10**5000: "config.epochs=<int> must be",
    MISSING: "config.epochs is missing; a config starts from",
  },
  "seed": {2**31: "and at most 2147483647", np.int64(3): "must be a whole"},
  "data.flip": {"yes": "must be True or False", 1: "must be True or False"},
  "data.pad": {2**20: "at most 1024", -1: "data.pad=-1 must be"},
  "dtype": {"float16": "config.dtype='float16' is not known; known: float32"},
  "data": {3: "config.data=3 must have keys: flip, folder, "},
  "data.flop": {True: "config.data has no key 'flop'; known: flip, folder"},
  "teachers": {
    5: "config.teachers=5 must be a tuple, each of it a line of text",
    ("a", 7): r"config.teachers=\('a', 7\) must be a tuple",
    ("x" * 300 + "=cnn",): "cannot be a folder's name",
    ("a/b=cnn",): "config.teachers: 'a/b' cannot be a folder's name",
    ("=",): "config.teachers='': there is no model called ''",
  },
  "student": {
    None: "config.student=None must be a line of text",
    "a\nb": r"config.student='a\\nb' must be a line of text",
    ".x": "config.student='.x' is no module's path",
  },
  "terms": {None: "config.terms=None must have", MISSING: "terms is missing"},
  "terms.kd": {
    "x": "config.terms.kd='x' must be a number of at least 0 or None",
    float("nan"): "config.terms.kd=nan must be",
    MISSING: "config.terms.kd is missing",
  },
  "terms.mine": {1.0: "config.terms.mine='mine': there is no term called"},
  "terms.seed": {1.0: "config.terms.seed: 'seed' cannot be a label"},
  "terms.accuracy": {1.0: "'accuracy' cannot be a label"},
  "mine": {0: "config has no key 'mine'; known: adapter, .* labels in"},
  "kd.temperature": {
    True: "config.kd.temperature=True must be a number above 0",
    float("inf"): "config.kd.temperature=inf must be",
    10**400: r"\(401 characters\) must be a number above 0 that fits",
  },
  "optimizer.milestones": {
    "x": "config.optimizer.milestones='x' must be a tuple, each of it",
    (0.5, True): "must be a tuple, each of it a number above 0 and below 1",
  },
  "teacher.optimizer.ema": {MISSING: "config.teacher.optimizer.ema is missing"},
  "adapter.index": {-1: "config.adapter.index=-1 must be", "a": "or None"},
  "adapter.indx": {1: "config.adapter has no key 'indx'; known: "},
  "hint.mapping": {(1, 2.5): "must be a line of text or a tuple, each of it"},
  "hint.teacher_stage": {2.5: "config.hint.teacher_stage=2.5 must be a whole"},
  "hint.ranking": {(1,): "config.hint has no key 'ranking'; known: mapping"},
  "kd.plugin": {"my.kd": "config.kd.plugin='my.kd': there is no term called"},
}


@pytest.mark.parametrize("key", FORCED)
def test_a_wrong_value_is_refused_however_it_came_in(key):
  *above, last = key.split(".")
  for value, message in FORCED[key].items():
    settings = blobs()
    section = functools.reduce(lambda at, name: at[name], above, settings)
    with section.unlocked():
      if last in section:  # ConfigDict would make 1.0 of True
        del section[last]
      if value is not MISSING:
        section[last] = value
    with pytest.raises(UserError, match=message) as refused:
      config.resolve(settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"plugin": "angle", "dlta": 1.0}, "config.mine has no key 'dlta'; known:"),
    ({"plugin": "angle", "delta": -1.0}, "config.mine.delta=-1.0 must be"),
    ({"plugin": "amtml_jax.files"}, "config.mine.plugin='amtml_jax.files'"),
    ({"plugin": "tests.broken"}, r"needs.mine .*config_test.py, line \d+"),
    (3, "config.mine=3 must be the settings of the term mine"),
  ],
)
def test_a_term_of_ones_own_is_checked_too(settings, message, monkeypatch):
  def broken(name):
    raise ImportError("needs.mine")

  if "broken" in str(settings):
    monkeypatch.setattr(importlib, "import_module", broken)
  made = blobs()
  with made.unlocked():
    made.terms.mine, made.mine = 0.5, settings
  with pytest.raises(UserError, match=message):
    config.resolve(made)


@pytest.mark.parametrize("settings", [None, 3, {}, "digits"])
def test_what_is_no_config_is_refused(settings):
  with pytest.raises(UserError, match="a config is a ConfigDict, not "):
    config.resolve(settings)


def test_references_that_lead_nowhere_are_refused():
  for value, message in (
    (required_placeholder(int), "config.again cannot be worked out"),
    (None, "is too deep: does it contain itself"),
  ):
    settings = blobs()
    settings.unlock()
    settings.again = settings if value is None else value
    with pytest.raises(UserError, match=message):
      config.resolve(settings)


def test_whole_numbers_become_floats_and_lists_tuples():
  settings = blobs(teachers=["cnn", "mlp"])
  del settings["kd"]
  with settings.unlocked():
    settings.kd = {"temperature": 4, "ratio": 1, "per_class": None}
  run = config.resolve(settings)
  assert (run.temperature, type(run.temperature)) == (4.0, float)
  assert run.teachers == ("cnn", "mlp")


@pytest.mark.parametrize("mapping", ["", "²,1", "9" * 5000])
def test_an_odd_mapping_is_left_to_the_hints(mapping):
  settings = blobs(hint__mapping=mapping)
  hint = next(t for t in config.resolve(settings).terms if t.label == "hint")
  assert hint.settings["mapping"][0] == mapping.split(",")[0]


def test_an_argument_of_another_type_is_named():
  with pytest.raises(ValueError, match=r"labels=ten of --config .* type int"):
    arguments("labels=ten", labels=0)


def test_arguments_have_their_defaults_type():
  assert arguments("labels=3", labels=0, method="x") == {
    "labels": 3,
    "method": "x",
  }


@pytest.mark.parametrize("name", cli.configs())
def test_every_config_of_the_package_resolves(name):
  values = cli.parse(["amtml", f"--config={name}"], workdir="")
  config.resolve(values.config)
  for spec in values.config.teachers:
    config.teacher(values.config, spec)
  text = pathlib.Path(cli.configs()[name]).read_text()
  assert f"amtml run --config={name}" in text
