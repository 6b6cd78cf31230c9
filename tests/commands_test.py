"""The commands, from a config to summary.json, on blobs."""

import dataclasses
import json
import shutil

import pytest

from amtml_jax import commands, ensemble, metrics, report
from amtml_jax.errors import DamagedError, UserError
from amtml_jax.progress import View
from tests.settings import blobs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  return folder, commands.run(blobs(), folder, View())


@pytest.fixture
def copy(finished, tmp_path):
  shutil.copytree(finished[0], tmp_path / "run")
  return tmp_path / "run"


def test_the_summary_has_what_scripts_read(finished):
  folder, summary = finished
  assert json.loads((folder / "summary.json").read_text()) == summary
  assert set(summary["teachers"]) == {"a", "b"}
  lines = [
    summary["student"],
    *summary["teachers"].values(),
    summary["ensemble"]["uniform"],
    summary["ensemble"]["adaptive"],
  ]
  for line in lines:
    assert 0.5 < line["test_accuracy"] <= 1.0
    # 16 · 64 + 64, 64 · 64 + 64, 64 · 3 + 3 for one network
    assert line["parameters"] in (5443, 2 * 5443)
  assert summary["student"]["compression"] == 2.0
  assert summary["student"]["step"] == 6
  assert sum(summary["weights"].values()) == pytest.approx(1.0, abs=1e-6)
  assert set(summary["seconds"]["teach"]) == {"a", "b"}
  assert summary["config"]["student"] == "mlp_small"
  assert summary["versions"]["jax"]


def test_every_evaluation_is_a_line_with_every_term(finished):
  lines = metrics.read(finished[0])
  assert [line["step"] for line in lines] == [3, 6]
  for name in (
    "train/cross_entropy",
    "train/kd",
    "train/angle",
    "train/hint",
    "train/loss",
    "train/weight/a",
    "train/weights_entropy",
    "validation/student/accuracy",
    "validation/ensemble.adaptive/accuracy",
    "validation/weights/b",
  ):
    assert isinstance(lines[0][name], float), name
  assert list((finished[0] / "events").glob("events.out.tfevents.*"))


def test_teachers_of_one_architecture_differ(finished):
  one, two = ensemble.manifest(finished[0] / "ensemble")
  assert one.fingerprint != two.fingerprint


def test_a_finished_run_is_not_repeated(copy, finished, capsys):
  assert commands.run(blobs(), copy, View()) == finished[1]
  assert "is done already" in capsys.readouterr().out


def test_evaluating_again_gives_the_same(copy, finished):
  again = commands.evaluate(blobs(), copy, View())
  for name in ("student", "best", "teachers", "ensemble", "weights"):
    assert again[name] == finished[1][name]


def test_more_epochs_extend_and_repeat_nothing(copy):
  summary = commands.run(blobs(epochs=3), copy, View())
  assert summary["student"]["step"] == 9
  assert [line["step"] for line in metrics.read(copy)] == [3, 6, 9]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"kd__temperature": 4.0}, "temperature=5.0, not 4.0"),
    ({"epochs": 1}, "epochs=2, not 1"),
    ({"terms__angle": 0.5}, "terms.angle.weight=1.0, not 0.5"),
    ({"seed": 1}, "seed=0, not 1"),
    ({"data__validation": 0.2}, "data.validation=0.1, not 0.2"),
  ],
)
def test_another_config_is_refused_and_changes_nothing(changes, message, copy):
  before = sorted(copy.rglob("*"))
  with pytest.raises(UserError, match=message):
    commands.distill(blobs(**changes), copy, View())
  assert sorted(copy.rglob("*")) == before


def test_a_third_teacher_joins_without_training_the_others(copy):
  log = metrics.read(copy / "teachers" / "a")
  three = ("c=mlp_small", "a=mlp_small", "b=mlp_small")
  teachers = commands.teach(blobs(teachers=three), copy, View())
  assert [t.name for t in teachers.teachers] == ["c", "a", "b"]
  assert metrics.read(copy / "teachers" / "a") == log


def test_an_ensemble_made_elsewhere(finished, tmp_path):
  settings = blobs(ensemble=str(finished[0] / "ensemble"), epochs=1)
  summary = commands.run(settings, tmp_path, View())
  assert summary["teachers"]["a"] == finished[1]["teachers"]["a"]
  assert not (tmp_path / "teachers").exists()


def test_alone_needs_no_teacher(tmp_path):
  summary = commands.run(blobs(method="alone", epochs=1), tmp_path, View())
  assert summary["teachers"] == {}
  assert summary["ensemble"] == {}
  assert list(tmp_path.glob("teachers")) == []
  report.table(summary)


def test_distilling_without_an_ensemble_says_what_to_do(tmp_path):
  with pytest.raises(UserError, match="amtml teach"):
    commands.distill(blobs(), tmp_path, View())


def test_a_missing_teacher_is_named(finished, tmp_path):
  settings = blobs(
    ensemble=str(finished[0] / "ensemble"), teachers=("mlp_small",)
  )
  with pytest.raises(UserError, match="no teacher 'mlp_small'; it has a, b"):
    commands.distill(settings, tmp_path, View())


def test_a_damaged_teacher_is_named(copy, tmp_path):
  folder = next((copy / "ensemble").glob("b-*"))
  path = max(folder.rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  settings = blobs(ensemble=str(copy / "ensemble"))
  with pytest.raises(DamagedError, match=r"teacher 'b': .* damaged"):
    commands.distill(settings, tmp_path / "new", View())
  assert not (tmp_path / "new").exists()


def test_teachers_of_other_classes_or_shapes_are_refused(finished):
  teachers = ensemble.restore(finished[0] / "ensemble", ())
  data = commands.load(commands.config.resolve(blobs()).data).train
  other = type(data)(data.image, data.label, ("dark", "top"))
  with pytest.raises(UserError, match="knows 3 classes"):
    teachers.check(other)
  wide = type(data)(data.image.repeat(2, axis=2), data.label, data.classes)
  with pytest.raises(UserError, match=r"shape \(4, 4, 1\)"):
    teachers.check(wide)


def test_the_ranking_is_by_held_out_accuracy(finished):
  one, _ = ensemble.manifest(finished[0] / "ensemble")
  entries = tuple(
    dataclasses.replace(one, validation_accuracy=a, test_accuracy=1 - a)
    for a in (0.5, 0.9, 0.7, 0.9)
  )
  assert ensemble.Ensemble(entries, ()).ranking == (1, 3, 2, 0)
