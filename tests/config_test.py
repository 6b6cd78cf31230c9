"""What a config leaves to its method, and what is refused."""

import pathlib

import pytest

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
    "stop_gradient_representation": False,
  }
  assert run.adapter.learning_rate == 0.01
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
    ({"dtype": "float16"}, "dtype='float16' is not known"),
    ({"kd__temperature": 0.0}, "kd.temperature=0.0 must be a number above 0"),
    ({"kd__temperature": float("nan")}, "kd.temperature=nan must be"),
    ({"kd__ratio": 1.5}, "kd.ratio=1.5 .* of at least 0 and at most 1"),
    ({"terms__kd": -1.0}, "terms.kd=-1.0 must be a number of at least 0"),
    ({"epochs": 0}, "epochs=0 must be a whole number of at least 1"),
    ({"data__pad": -1}, "data.pad=-1"),
    ({"optimizer__momentum": 1.0}, "optimizer.momentum=1.0"),
    ({"optimizer__milestones": (0.5, 2.0)}, "milestones"),
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
    ({"teachers": ("a/b=cnn",)}, "cannot be a folder's name"),
    ({"student": "tests.nothing"}, "no model called 'tests.nothing'"),
    ({"student": "amtml_jax.models.resnet:x"}, "no network called 'x'"),
    ({"student": "amtml_jax.files"}, "is no model: it has no Model"),
    (
      {
        "method": "alone",
        "terms__cross_entropy": 0.0,
      },
      "every weight in config.terms is 0",
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


def test_a_missing_key_is_named():
  settings = blobs()
  with settings.unlocked():
    del settings.kd
  with pytest.raises(UserError, match=r"config\.kd is missing"):
    config.resolve(settings)


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
