"""The commands, from a config to summary.json, on blobs."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from amtml_jax import checkpoint, commands, ensemble, metrics, report
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


def test_a_teacher_that_has_learnt_nothing_is_named(tmp_path, capsys):
  nothing = {"teacher__epochs": 1, "teacher__optimizer__learning_rate": 1e-9}
  commands.teach(blobs(teachers=("a=mlp_small",), **nothing), tmp_path, View())
  said = capsys.readouterr().out
  assert "warning: a is hardly better than chance on held-out images" in said


def test_an_adapter_that_hears_one_teacher_alone_is_named(
  copy, tmp_path, capsys
):
  settings = blobs(method="log_gate", adapter__learning_rate=100.0, seeds=2)
  settings.ensemble, settings.data.views = str(copy / "ensemble"), 1
  summary = commands.distill(settings, tmp_path, View())
  said = capsys.readouterr().out
  for one in summary["seeds"]:
    sentence = f"the adapter of seed {one['seed']} gives"
    assert (sentence in said) == (max(one["weights"].values()) > 0.97)
  assert "100.0% of all weight; a smaller config.adapter.learning_rate" in said


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


def test_another_ensemble_is_not_done_already(copy, tmp_path):
  commands.teach(blobs(teacher__seed=5), tmp_path / "other", View())
  settings = blobs(ensemble=str(tmp_path / "other" / "ensemble"))
  with pytest.raises(UserError, match="trained by other teachers"):
    commands.run(settings, copy, View())


def write_npz(path, seed, train=60):
  rng = np.random.default_rng(seed)
  arrays = {
    f"{split}_{what}": value
    for split, n in (("train", train), ("test", 12))
    for what, value in (
      ("images", rng.integers(0, 256, (n, 4, 4, 1), dtype=np.uint8)),
      ("labels", np.arange(n) % 3),
    )
  }
  np.savez(path, **arrays)


def test_other_data_is_refused(tmp_path):
  for seed in (0, 1):
    write_npz(tmp_path / f"{seed}.npz", seed)
  settings = dict(data__source="npz", method="alone", epochs=1)
  first = blobs(**settings, data__folder=str(tmp_path / "0.npz"))
  commands.run(first, tmp_path / "run", View())
  second = blobs(**settings, data__folder=str(tmp_path / "1.npz"))
  with pytest.raises(UserError, match="data_fingerprint="):
    commands.run(second, tmp_path / "run", View())
  (tmp_path / "0.npz").rename(tmp_path / "moved.npz")
  moved = blobs(**settings, data__folder=str(tmp_path / "moved.npz"))
  commands.run(moved, tmp_path / "run", View())


def test_a_set_that_leaves_no_validation_is_refused(tmp_path):
  write_npz(tmp_path / "three.npz", 0, train=3)
  settings = blobs(
    data__source="npz",
    data__folder=str(tmp_path / "three.npz"),
    method="alone",
    batch_size=1,
    devices=1,
  )
  with pytest.raises(UserError, match="no image is left for validation"):
    commands.run(settings, tmp_path / "run", View())


def test_a_missing_test_split_is_known_before_a_teacher_is_trained(tmp_path):
  write_npz(tmp_path / "whole.npz", 0)
  with np.load(tmp_path / "whole.npz") as whole:
    np.savez(
      tmp_path / "torn.npz",
      **{k: v for k, v in whole.items() if k != "test_labels"},
    )
  settings = blobs(data__source="npz", data__folder=str(tmp_path / "torn.npz"))
  with pytest.raises(UserError, match="test_labels"):
    commands.run(settings, tmp_path / "run", View())
  assert not (tmp_path / "run").exists()


def test_teachers_of_a_student_that_is_there_are_not_taught_again(copy):
  before = (copy / "ensemble" / "manifest.json").read_bytes()
  with pytest.raises(UserError, match="its teacher a with epochs=8"):
    commands.run(blobs(teacher__epochs=9), copy, View())
  assert (copy / "ensemble" / "manifest.json").read_bytes() == before
  assert commands.run(blobs(), copy, View())["student"]["step"] == 6


def test_more_teacher_epochs_extend_teachers_without_a_student(tmp_path):
  commands.teach(blobs(teacher__epochs=1), tmp_path, View())
  commands.teach(blobs(teacher__epochs=2), tmp_path, View())
  lines = metrics.read(tmp_path / "teachers" / "a")
  assert [line["epoch"] for line in lines] == [1, 2]
  assert ensemble.manifest(tmp_path / "ensemble")[0].config["epochs"] == 2


def test_two_stages_are_not_extended(tmp_path, finished):
  settings = dict(
    adapter__schedule="two_stage", ensemble=str(finished[0] / "ensemble")
  )
  commands.run(blobs(**settings), tmp_path, View())
  with pytest.raises(UserError, match="two_stage cannot be extended"):
    commands.run(blobs(**settings, epochs=5), tmp_path, View())


def test_a_damaged_teacher_of_ones_own_is_made_again(copy, finished, capsys):
  folder = next((copy / "ensemble").glob("b-*"))
  path = max(folder.rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  teachers = commands.teach(blobs(), copy, View())
  assert "made again" in capsys.readouterr().out
  assert teachers.teachers == ensemble.manifest(finished[0] / "ensemble")
  assert commands.run(blobs(), copy, View()) == finished[1]


def test_a_damaged_best_checkpoint_spoils_no_report(
  copy, finished, monkeypatch
):
  # The best is made the first of two, so that the last one stays whole.
  monkeypatch.setattr(checkpoint.Checkpoints, "best", lambda self: 3)
  assert commands.evaluate(blobs(), copy, View())["best"]["step"] == 3
  shutil.rmtree(copy / "checkpoints" / "3" / "state")
  again = commands.evaluate(blobs(), copy, View())
  assert again["best"] is None
  assert again["student"] == finished[1]["student"]
  report.table(again)


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
