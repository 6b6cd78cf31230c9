"""A sweep on blobs, from its file to results: resumes, shares, refuses."""

import gc
import json
import pathlib
import re
import shutil

import jax
import pytest

from amtml_jax import cli, commands, experiment, results, sweep
from amtml_jax.errors import DivergedError
from amtml_jax.methods import METHODS
from amtml_jax.progress import View

FILE = '''
"""Two methods on blobs."""

from amtml_jax.tables import Table
from tests.settings import quick

SEEDS = (0, 1)
RUNS = {
  "even": {"method": "avgmkd"},
  "one": {"method": "okd", "teachers": ("a=mlp_small",)},
}


def get_config(text=""):
  return quick(epochs=1, teacher__epochs=1, terms__hint=0.0)


def tabulate(results):
  rows = [
    (run, len(cells), *(c["result"]["student"]["test_accuracy"] for c in cells))
    for run, cells in results.items()
  ]
  rows = [(*row, None, None)[:4] for row in rows]
  return [Table("Accuracy", ("run", "seeds", "0", "1"), rows)]
'''


def amtml(*args):
  return cli.main(["amtml", *map(str, args)])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  path = tmp_path_factory.mktemp("experiment") / "mine.py"
  path.write_text(FILE)
  return path


@pytest.fixture(scope="module")
def halved(file, tmp_path_factory):
  """A sweep of which one cell was run by its index: one/0."""
  folder = tmp_path_factory.mktemp("sweep") / "half"
  args = (f"--experiment={file}", f"--workdir={folder}", "--index=1")
  assert amtml("sweep", *args) == 0
  return folder


@pytest.fixture(scope="module")
def finished(file, halved, tmp_path_factory):
  """The rest of it, from where the index left it."""
  folder = tmp_path_factory.mktemp("sweep") / "whole"
  shutil.copytree(halved, folder)
  args = (f"--experiment={file}", f"--workdir={folder}")
  assert amtml("sweep", *args) == 0
  return folder


def cell(folder, run, seed):
  return json.loads((folder / "results" / run / f"{seed}.json").read_text())


def test_seeds_that_share_views_train_in_one_program(file, tmp_path):
  args = (
    *(f"--experiment={file}", f"--workdir={tmp_path}"),
    *("--config.data.views=1", "--seeds=0,1,5", "--index=1"),
  )
  assert amtml("sweep", *args) == 0
  folders = [p.name for p in (tmp_path / "cells" / "one").iterdir()]
  assert sorted(folders) == ["0-1", "5"]
  there = results.read(tmp_path)
  assert there.missing == ["even/0", "even/1", "even/5"]
  summary = json.loads(
    (tmp_path / "cells" / "one" / "0-1" / "summary.json").read_text()
  )
  for seed in (0, 1):
    own = cell(tmp_path, "one", seed)
    assert own["config"]["seed"] == seed
    assert own["config"]["seeds"] == 1
    assert own["result"]["student"] == summary["seeds"][seed]["student"]
    assert "seeds" not in own["result"]
    last = own["curve"][-1]["validation/student/accuracy"]
    assert last == own["result"]["student"]["validation_accuracy"]
  assert cell(tmp_path, "one", 5)["curve"]
  losses = {cell(tmp_path, "one", s)["curve"][-1]["train/loss"] for s in (0, 1)}
  assert len(losses) == 2  # each its own


def test_the_readmes_adapter_is_compared_by_its_path(
  tmp_path, monkeypatch, capsys
):
  readme = pathlib.Path(__file__).parent.parent / "README.md"
  (code,) = re.findall(r"```py\n(.*?)```", readme.read_text(), re.DOTALL)
  (tmp_path / "ones").mkdir()
  (tmp_path / "ones" / "trust.py").write_text(code)
  monkeypatch.syspath_prepend(tmp_path)
  args = (
    *("--experiment=compare_methods:also=ones.trust", "--seeds=0"),
    *(f"--workdir={tmp_path}/run", f"--index={len(METHODS)}"),
    *("--config.student=mlp_small", "--config.data.views=1"),
    *("--config.epochs=2", "--config.teacher.epochs=1"),
    *("--config.teachers=('a=mlp_small', 'b=mlp_small')",),
    *("--config.terms.hint=0.0", "--config.optimizer.warmup_epochs=0"),
    "--config.teacher.optimizer.warmup_epochs=0",
  )
  assert amtml("sweep", *args) == 0
  result = cell(tmp_path / "run", "ones.trust", 0)["result"]
  assert abs(sum(result["weights"].values()) - 1) < 1e-5
  assert len(set(result["weights"].values())) == 2  # they learnt
  capsys.readouterr()
  assert amtml("report", f"{tmp_path}/run") == 0
  text = (tmp_path / "run" / "report.md").read_text()
  assert re.search(r"\| ones.trust \| \d\d\.\d\d", text)


def test_a_cell_leaves_no_compiled_programs_behind(file, halved, tmp_path):
  # Each maps memory, of which a process may have so many pieces: a long sweep
  # of large programs died of them.
  shutil.copytree(halved, tmp_path / "run")
  args = (f"--experiment={file}", f"--workdir={tmp_path}/run", "--index=0")
  assert amtml("sweep", *args) == 0
  gc.collect()
  assert len(jax.devices()[0].client.live_executables()) < 10


def test_an_index_is_one_cell(halved):
  there = results.read(halved)
  assert there.missing == ["even/0", "even/1", "one/1"]
  assert there.named_missing() == ["even (all 2 seeds)", "one/1"]
  assert [p.name for p in (halved / "cells").iterdir()] == ["one"]
  # Only the teachers that this cell listens to.
  assert [p.name for p in (halved / "teachers").iterdir()] == ["a"]


def test_a_result_says_what_made_it(finished):
  found = cell(finished, "even", 1)
  assert found["config"]["method"] == "avgmkd"
  assert found["config"]["seed"] == found["seed"] == 1
  assert found["config"]["epochs"] == 1
  assert set(found["versions"]) >= {"amtml-jax", "jax", "flax"}
  assert found["commit"] is None or len(found["commit"]) >= 40
  student = found["result"]["student"]
  assert 0 <= student["test_calibration_error"] <= 1
  assert 0 <= student["test_agreement"] <= 1
  assert [line["epoch"] for line in found["curve"]] == [1]
  assert "validation/student/accuracy" in found["curve"][0]


def test_a_sweep_goes_on_and_repeats_nothing(finished, halved):
  assert results.read(finished).missing == []
  # The cell of before is as it was, to its time of training.
  assert cell(finished, "one", 0) == cell(halved, "one", 0)
  # Each teacher was taught once, for all cells that listen to it.
  assert sorted(p.name for p in (finished / "teachers").iterdir()) == ["a", "b"]
  prints = {
    cell(finished, run, seed)["result"]["teachers"]["a"]["fingerprint"]
    for run in ("even", "one")
    for seed in (0, 1)
  }
  assert len(prints) == 1


def test_a_finished_sweep_does_nothing_and_shows_its_table(
  file, finished, monkeypatch, capsys
):
  monkeypatch.setattr(commands, "run", None)
  args = (f"--experiment={file}", f"--workdir={finished}")
  assert amtml("sweep", *args) == 0
  out = capsys.readouterr().out
  assert "4 of 4 cells are done" in out
  assert "Accuracy" in out


def test_seeds_of_ones_own_join_those_that_are_there(
  file, halved, tmp_path, monkeypatch, capsys
):
  folder = tmp_path / "sweep"
  shutil.copytree(halved, folder)
  done = cell(halved, "one", 0)["result"]
  monkeypatch.setattr(commands, "run", lambda *_: done)
  monkeypatch.setattr(commands, "teach", lambda *_: None)
  args = (f"--experiment={file}", f"--workdir={folder}", "--seeds=7")
  assert amtml("sweep", *args) == 0
  assert list(results.read(folder).cells) == [
    ("even", 7),
    ("one", 7),
    *(("even", 0), ("one", 0), ("even", 1), ("one", 1)),
  ]
  out = capsys.readouterr().out
  assert "even/7  1 of 6 cells done, about" in out
  assert "left for all 2" in out
  # Those that are not there yet are not forgotten.
  assert results.read(folder).missing == ["even/0", "even/1", "one/1"]


def test_one_cell_that_diverges_stops_no_other(file, tmp_path, monkeypatch):
  def run(settings, folder, view):
    if settings.method == "avgmkd":
      raise DivergedError("the loss turned nan")
    return {"student": {"test_accuracy": 0.5}}

  monkeypatch.setattr(commands, "run", run)
  monkeypatch.setattr(commands, "teach", lambda *_: None)
  found = experiment.load(str(file))
  cells = sweep.Sweep(found, found.base, tmp_path / "new", View())
  with pytest.raises(DivergedError):
    cells.run()
  there = results.read(tmp_path / "new")
  assert there.missing == ["even/0", "even/1"]


def test_a_seed_that_diverges_costs_no_other_of_its_program(
  file, tmp_path, monkeypatch
):
  def run(settings, folder, view):
    seeds = range(settings.seed, settings.seed + settings.seeds)
    if 1 in seeds:
      raise DivergedError("the loss turned nan")
    own = {"student": {"test_accuracy": 0.5}}
    each = [{"seed": seed, **own} for seed in seeds]
    return {**own, "seeds": each} if len(seeds) > 1 else dict(own)

  monkeypatch.setattr(commands, "run", run)
  monkeypatch.setattr(commands, "teach", lambda *_: None)
  found = experiment.load(str(file))
  base = found.base.copy_and_resolve_references()
  base.data.views = 1
  cells = sweep.Sweep(found, base, tmp_path / "new", View(), (0, 1, 2))
  with pytest.raises(DivergedError):
    cells.run()
  assert results.read(tmp_path / "new").missing == ["even/1", "one/1"]


def test_teachers_that_are_trained_otherwise_lie_apart(file):
  base = experiment.load(str(file)).base
  alike = base.copy_and_resolve_references()
  alike.seed, alike.method, alike.student = 3, "okd", "cnn"
  alike.teachers = ("c=mlp_small",)
  alike.data.labels_per_class = 2
  assert sweep.pool(alike, base) == ""
  for key, value in (
    ("teacher.epochs", 2),
    ("teacher.seed", 1),
    ("data.train_size", 60),
  ):
    other = base.copy_and_resolve_references()
    other.update_from_flattened_dict({key: value})
    assert sweep.pool(other, base).startswith("taught/"), key


HEAD = "from tests.settings import quick as get_config\n"
TAIL = "\ndef tabulate(results):\n  return []\n"
WRONG = {
  "no runs": (f"{HEAD}{TAIL}", (), "has no runs; RUNS names them: {'even'"),
  "empty runs": (f"{HEAD}RUNS = {{}}{TAIL}", (), "has no runs"),
  "a name twice": (
    f"{HEAD}RUNS = [('a', {{}}), ('b', {{}}), ('a', {{}})]{TAIL}",
    (),
    "has two runs called 'a'",
  ),
  "a name twice in a dict with a type": (
    f"{HEAD}RUNS: dict = {{'a': {{}}, 'a': {{}}}}{TAIL}",
    (),
    "has two runs called 'a'",
  ),
  "a name twice in a dict of a function": (
    f"{HEAD}def get_runs(text=''):\n  return {{'a': {{}}, 'a': {{}}}}\n{TAIL}",
    (),
    "has two runs called 'a'",
  ),
  "a name twice in a dict that a function names": (
    f"{HEAD}def get_runs(text=''):\n  own = {{'a': {{}}, 'a': {{}}}}\n"
    f"  return own\n{TAIL}",
    (),
    "has two runs called 'a'",
  ),
  "a name twice in a dict": (
    f"{HEAD}RUNS = {{'a': {{}}, 'a': {{}}}}{TAIL}",
    (),
    "has two runs called 'a'",
  ),
  "a name that is no folder's": (
    f"{HEAD}RUNS = {{'../a': {{}}}}{TAIL}",
    (),
    "the run '../a' cannot be a folder's name",
  ),
  "no overrides": (
    f"{HEAD}RUNS = ['avgmkd']{TAIL}",
    (),
    "'avgmkd' in RUNS is no name with a dict of overrides",
  ),
  "an unknown key": (
    f"{HEAD}RUNS = {{'a': {{'kd.tau': 1}}}}{TAIL}",
    (),
    "run 'a': config.kd has no key 'tau'; known: per_class, ratio, temperature",
  ),
  "a wrong value": (
    f"{HEAD}RUNS = {{'a': {{'epochs': 'two'}}}}{TAIL}",
    (),
    "run 'a': config.epochs='two' must be a whole number",
  ),
  "a value below a value": (
    f"{HEAD}RUNS = {{'a': {{'epochs.x': 1}}}}{TAIL}",
    (),
    "run 'a': config has no key 'epochs.x': epochs is a value",
  ),
  "a seed among the overrides": (
    f"{HEAD}RUNS = {{'a': {{'seed': 1}}}}{TAIL}",
    (),
    "seeds stand in SEEDS, not in the overrides",
  ),
  "seeds twice": (
    f"{HEAD}RUNS = {{'a': {{}}}}\nSEEDS = (0, 0){TAIL}",
    (),
    "SEEDS=(0, 0) must be whole numbers of at least 0, each once",
  ),
  "one name for two networks": (
    f"{HEAD}RUNS = {{'a': {{}}, 'b': {{'teachers': ('a=cnn',)}}}}{TAIL}",
    (),
    "the teacher 'a' is a mlp_small in run 'a' and a cnn in run 'b'; give one",
  ),
  "no experiment": ("x = 1", (), "is no experiment: it has no function tabul"),
  "a config": (HEAD, (), "is no experiment: it has no function tabulate"),
  "no base": (TAIL, (), "get_config() is missing"),
  "no Python": ("def tabulate(:", (), "SyntaxError: invalid syntax"),
  "an index out of range": (
    FILE,
    ("--index=4",),
    "has 4 programs of 4 cells, 0 to 3",
  ),
  "an index of nothing": (FILE, ("--index=",), "--index= must be a cell"),
  "seeds of nothing": (FILE, ("--seeds=",), "--seeds=[''] must be whole"),
  "an index that is none": (FILE, ("--index=-1",), "--index=-1 must be a cell"),
  "seeds that are none": (FILE, ("--seeds=1,x",), "--seeds=[1, 'x'] must be"),
  "an unknown key of the base": (
    FILE,
    ("--config.kd.tau=1",),
    "config.kd has no key 'tau'; known: per_class, ratio, temperature",
  ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_sentence_and_writes_nothing(name, tmp_path, capsys):
  text, flags, message = WRONG[name]
  path, new = tmp_path / "mine.py", tmp_path / "new"
  path.write_text(text)
  args = (f"--experiment={path}", f"--workdir={new}", *flags)
  assert amtml("sweep", *args) == 2
  out, err = capsys.readouterr()
  assert message in err
  assert err.startswith("amtml: ")
  assert err.count("\n") == 1
  assert out == ""
  assert not new.exists()


def test_what_is_missing_is_named(file, tmp_path, capsys):
  for args, message in (
    ((), "amtml sweep needs --experiment"),
    ((f"--experiment={file}",), "amtml sweep needs --workdir"),
    (
      ("--experiment=compare", f"--workdir={tmp_path / 'new'}"),
      "there is no experiment 'compare': neither a file nor one of ",
    ),
  ):
    assert amtml("sweep", *args) == 2
    assert message in capsys.readouterr().err
  assert not (tmp_path / "new").exists()


def test_another_base_or_run_is_refused(file, finished, tmp_path, capsys):
  before = (finished / "results" / "sweep.json").read_bytes()
  where = f"--workdir={finished}"
  args = (f"--experiment={file}", where, "--config.epochs=3")
  assert amtml("sweep", *args) == 2
  assert "holds a sweep with epochs=1, not 3" in capsys.readouterr().err
  other = tmp_path / "other.py"
  other.write_text(FILE.replace('"avgmkd"}', '"avgmkd", "kd.ratio": 0.5}'))
  assert amtml("sweep", f"--experiment={other}", where) == 2
  err = capsys.readouterr().err
  assert "holds even/0 with kd.ratio=0.7, not 0.5" in err
  assert (finished / "results" / "sweep.json").read_bytes() == before


def test_other_seeds_of_a_run_have_its_config(file, finished, tmp_path, capsys):
  other = tmp_path / "other.py"
  other.write_text(FILE.replace('"avgmkd"}', '"avgmkd", "kd.ratio": 0.5}'))
  where = f"--workdir={finished}"
  assert amtml("sweep", f"--experiment={other}", where, "--seeds=5") == 2
  err = capsys.readouterr().err
  assert "holds even/0 with kd.ratio=0.7, not 0.5" in err


def test_a_cell_that_is_made_otherwise_is_refused(finished, tmp_path, capsys):
  other = tmp_path / "timed.py"
  other.write_text(
    f"{FILE}\n\ndef run(settings, workdir, view):\n  return {{}}\n"
  )
  args = (f"--experiment={other}", f"--workdir={finished}")
  assert amtml("sweep", *args) == 2
  err = capsys.readouterr().err
  assert "even/0, which was made by training, not by run() of timed" in err


def test_results_of_a_preset_that_has_changed_are_refused(
  file, finished, monkeypatch, capsys
):
  args = (f"--experiment={file}", f"--workdir={finished}")
  for terms, said in (
    ({"kd": 0.25}, "terms.kd.weight=0.7, not 0.25"),
    ({"distance": 1.0}, "of_terms='cross_entropy, kd', not 'cross_"),
  ):
    changed = {**METHODS["okd"]["terms"], **terms}
    with monkeypatch.context() as patch:
      patch.setitem(METHODS, "okd", {**METHODS["okd"], "terms": changed})
      assert amtml("sweep", *args) == 2
    assert f"holds one/0 with {said}" in capsys.readouterr().err
