"""Reports of results that are half there, of other code, or hostile."""

import csv
import dataclasses
import html.parser
import json
import re
import shutil
import sys

import pytest

from amtml_jax import (
  charts,
  cli,
  experiment,
  provenance,
  reporting,
  results,
  tables,
)

EVIL = '<b onclick="x()">&$\\_|'
FILE = '''
"""An <i>experiment</i> & more.

Its second line is not its title.
"""

from amtml_jax.tables import Table
from tests.settings import quick as get_config

RUNS = {"even": {}, EVIL: {}, "other": {}}


def tabulate(results):
  rows = [
    (run, cells[0]["result"]["student"]["test_accuracy"] if cells else None)
    for run, cells in results.items()
  ]
  bars = {"<accuracy>": {run: (value or 0.0, 0.1) for run, value in rows}}
  note = "In <percent>."
  return [Table("Accuracy <1>", ("run", "<acc>"), rows, (note,), bars, "<%>")]
'''.replace("EVIL", repr(EVIL))


def result(run, seed, **changes):
  line = {
    "epoch": 1,
    "validation/student/accuracy": 0.5,
    "train/weights_entropy": 0.7,
  }
  made = {
    "run": run,
    "seed": seed,
    "commit": provenance.commit(),
    "versions": provenance.versions(),
    "seconds": 12.0,
    "config": {"epochs": 2},
    "result": {
      "student": {"test_accuracy": 0.875 + seed, "name": EVIL},
      "weights": {"a": 0.25, EVIL: 0.75},
    },
    "curve": [line, {**line, "epoch": 2, "validation/student/accuracy": 0.75}],
  }
  return {**made, **changes}


@pytest.fixture
def folder(tmp_path):
  """Two runs under two seeds, of which one cell is missing."""
  (tmp_path / "mine.py").write_text(FILE)
  cells = [[run, seed] for seed in (0, 1) for run in ("even", EVIL)]
  header = {
    "format": 1,
    "experiment": str(tmp_path / "mine.py"),
    "title": "An <i>experiment</i> & more",
    "base": {"epochs": 2},
    "cells": cells,
  }
  place = tmp_path / "sweep" / "results"
  place.mkdir(parents=True)
  (place / "sweep.json").write_text(json.dumps(header))
  for run, seed in cells[:3]:
    put(place, result(run, seed))
  return tmp_path / "sweep"


def put(place, made):
  path = results.path(place, made["run"], made["seed"])
  path.parent.mkdir(exist_ok=True)
  path.write_text(json.dumps(made))


def amtml(*args):
  return cli.main(["amtml", *map(str, args)])


def report(folder):
  assert amtml("report", folder) == 0
  return {
    kind: (folder / f"report.{kind}").read_text()
    for kind in ("md", "csv", "html")
  }


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
  """Drawing takes a second: only where figures are looked at."""
  if "drawn" not in request.fixturenames:
    monkeypatch.setattr(charts, "there", lambda: False)


@pytest.fixture
def drawn(folder):
  """The report with its figures."""
  return report(folder)


class Page(html.parser.HTMLParser):
  """Texts and tags of a page, which must close all that it opens."""

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.texts = [], [], []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if tag not in ("meta", "br"):
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.texts.append(data)


def test_a_half_finished_sweep_says_which_cells_are_missing(folder):
  made = report(folder)
  assert "3 of 4 cells are done." in made["md"]
  # Where a row is a run's, the row says it; below the table all are named.
  assert "| even | 0.875 |" in made["md"]
  page = Page(made["html"])
  assert "3 of 4 cells are done." in page.texts
  assert page.texts.count(f"Missing: {EVIL}/1.") == 2
  assert page.texts.count("missing") == 1


def test_a_table_names_few_of_many_missing_cells(tmp_path):
  cells = {(f"run{i}", seed): None for i in range(6) for seed in (0, 1)}
  there = results.Results(tmp_path, {}, cells, [])
  assert "run5 (all 2 seeds)." in there.notes()[1]
  (below,) = there.marked(tables.Table("Methods", ("run", "x"), [])).notes
  assert below.startswith("Missing: run0 (all 2 seeds), run1 (all 2 seeds), ")
  assert below.endswith("run3 (all 2 seeds) and 2 more.")


def test_more_curves_than_look_unlike_are_not_drawn(tmp_path):
  def captions(count):
    cells = {(f"run{i}", 0): result(f"run{i}", 0) for i in range(count)}
    there = results.Results(tmp_path, {}, cells, [])
    return reporting._figures(there, [], experiment.load("compare_methods"))

  assert len(captions(charts.APART)) == 3
  (left,) = captions(charts.APART + 1)
  assert left.startswith("Whom the student listens to")


def test_the_row_of_a_run_with_missing_seeds_says_so(folder):
  shutil.rmtree(folder / "results" / "even")
  put(folder / "results", result("even", 1))
  assert "| even (1 of 2 seeds) | 1.875 |" in report(folder)["md"]


def test_a_damaged_result_is_named_and_counts_as_missing(folder):
  path = results.path(folder / "results", "even", 0)
  path.write_text(path.read_text()[:100])
  made = report(folder)
  assert "2 of 4 cells are done." in made["md"]
  assert "even/0.json cannot be read: it is no JSON" in made["md"]


def test_a_result_of_another_code_version_is_marked(folder):
  older = {**provenance.versions(), "amtml-jax": "0.0.9"}
  put(folder / "results", result("even", 1, versions=older))
  made = report(folder)
  assert "| even \\* | 0.875 |" in made["md"]
  assert "Marked \\*, of another version of the code: even/1 (" in made["md"]
  assert "1 of amtml-jax 0.0.9" in made["md"]
  put(folder / "results", result("even", 1, commit="0" * 40))
  if provenance.commit() is not None:  # there is a repository
    assert "commit 00000000" in report(folder)["md"]
  put(folder / "results", result("even", 1))
  assert "another version" not in report(folder)["md"]


def test_a_result_of_another_jax_is_marked(folder):
  other = {**provenance.versions(), "jax": "0.0.1"}
  put(folder / "results", result("even", 1, versions=other))
  made = report(folder)["md"]
  assert "| even \\* | 0.875 |" in made
  assert "jax 0.0.1" in made


def test_the_fewest_are_marked_where_the_code_at_hand_does_not_count(folder):
  older = {**provenance.versions(), "amtml-jax": "0.0.9"}
  for seed in (0, 1):
    put(folder / "results", result("even", seed, versions=older))
  there = results.read(folder)
  assert there.strangers() == {("even", 0), ("even", 1)}
  there = dataclasses.replace(there, here=False)
  assert there.strangers() == {(EVIL, 0)}


def test_a_row_of_several_runs_is_marked_by_all_of_them(folder):
  table = tables.Table("T", ("method", "x"), [("m", 1), ("n", 2)])
  table = dataclasses.replace(table, of=[("even", EVIL), (EVIL,)])
  older = {**provenance.versions(), "amtml-jax": "0.0.9"}
  put(folder / "results", result("even", 1, versions=older))
  there = results.read(folder)
  assert there.marked(table).rows == [
    ("m (3 of 4 cells) *", 1),
    ("n (1 of 2 seeds)", 2),
  ]
  short = dataclasses.replace(table, of=[("even",)])
  assert short.wrong() == "`of` has 1 rows, and the table 2"


def test_code_that_does_not_know_itself_marks_the_fewest(folder, monkeypatch):
  monkeypatch.setattr(provenance, "commit", lambda: None)
  for run, seed in (("even", 0), (EVIL, 0)):
    put(folder / "results", result(run, seed, commit="1" * 40))
  put(folder / "results", result("even", 1, commit="0" * 40))
  made = report(folder)["md"]
  assert "| even \\* | 0.875 |" in made
  assert "of another version of the code: even/1 (" in made


def test_results_that_are_all_of_other_code_say_so_once(folder):
  older = {**provenance.versions(), "amtml-jax": "0.0.9"}
  for run, seed in (("even", 0), (EVIL, 0), ("even", 1)):
    put(folder / "results", result(run, seed, versions=older))
  made = report(folder)["md"]
  assert "All results are of another version of the code, amtml-jax 0.0.9" in (
    made
  )
  assert "| even | 0.875 |" in made


def test_what_results_say_is_text_on_the_page(drawn):
  text = drawn["html"]
  page = Page(text)
  tags = {tag for tag, _ in page.tags}
  assert not tags & {"b", "i", "script", "accuracy", "percent", "acc"}
  assert not any("onclick" in attrs for _, attrs in page.tags)
  for said in ("An <i>experiment</i> & more", "Accuracy <1>", "In <percent>."):
    assert said in page.texts
  assert EVIL in page.texts  # in the list of cells, and in the figures
  # Nothing comes from elsewhere.
  for _, attrs in page.tags:
    for name in ("src", "href", "xlink:href"):
      assert attrs.get(name, "#").startswith("#")
  assert "@import" not in text


def test_figures_are_drawn_with_ids_of_their_own(drawn):
  page = Page(drawn["html"])
  assert [tag for tag, _ in page.tags].count("svg") == 4
  ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
  assert len(ids) > 40
  assert len(set(ids)) == len(ids)
  known = {f"#{name}" for name in ids}
  used = {a["xlink:href"] for _, a in page.tags if "xlink:href" in a}
  assert used
  assert used <= known
  captions = [a["aria-label"] for tag, a in page.tags if tag == "figure"]
  assert captions[0] == "Accuracy <1>"
  assert captions[1].startswith("Validation accuracy by epoch")


def test_a_report_is_the_same_twice(folder, drawn):
  assert report(folder) == drawn


def test_without_matplotlib_one_sentence_stands_for_the_figures(
  folder, monkeypatch, capsys
):
  monkeypatch.undo()
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  made = report(folder)
  sentence = "Charts need matplotlib: pip install 'amtml-jax[report]'."
  assert sentence in capsys.readouterr().out
  assert sentence in Page(made["html"]).texts
  assert "<svg" not in made["html"]
  assert "Accuracy" in made["md"]


def test_the_csv_has_a_line_a_cell_and_a_column_a_number(folder):
  lines = list(csv.DictReader(report(folder)["csv"].splitlines()))
  assert [(line["run"], line["seed"]) for line in lines] == [
    ("even", "0"),
    (EVIL, "0"),
    ("even", "1"),
  ]
  assert lines[0]["student/test_accuracy"] == "0.875"
  assert lines[0]["weights/a"] == "0.25"


def test_markdown_keeps_its_table_whole(folder):
  put(folder / "results", result(EVIL, 1))
  made = report(folder)["md"].replace("\\|", "")
  rows = [line for line in made.splitlines() if line.startswith("|")]
  assert {row.count("|") for row in rows} == {3}
  assert not re.search("<[bi]", made)


def test_a_copy_of_the_results_is_reported_alone(folder, tmp_path):
  copy = tmp_path / "committed"
  shutil.copytree(folder / "results", copy)
  assert report(copy) == report(folder)


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (lambda f: f / "nowhere", "there is no sweep in"),
    (lambda f: (f / "results/sweep.json").write_text("{"), "it is no JSON"),
    (
      lambda f: (f / "results/sweep.json").write_text('{"format": 1}'),
      "experiment is missing",
    ),
    (
      lambda f: (f.parent / "mine.py").unlink(),
      "mine.py': neither a file nor one of ablation,",
    ),
    (
      lambda f: (f.parent / "mine.py").write_text(f"{FILE}\n x = 1\n"),
      "IndentationError",
    ),
    (
      lambda f: (f.parent / "mine.py").write_text(
        FILE.replace("rows, (note,)", "[1], (note,)")
      ),
      "not 2 columns",
    ),
    (
      lambda f: (f.parent / "mine.py").write_text(
        FILE.replace("return [Table", "return [1 / 0, Table")
      ),
      "ZeroDivisionError: division by zero",
    ),
  ],
)
def test_what_cannot_be_reported_is_one_sentence(
  damage, message, folder, capsys
):
  other = damage(folder)
  place = other if hasattr(other, "parts") else folder
  assert amtml("report", place) == 2
  out, err = capsys.readouterr()
  assert message in err
  assert err.startswith("amtml: ")
  assert err.count("\n") == 1
  assert out == ""
  assert not (folder / "report.md").exists()


def test_a_report_needs_a_folder(capsys):
  assert amtml("report") == 2
  assert "needs a sweep's folder first" in capsys.readouterr().err


def test_runs_of_another_experiment_are_named_and_not_shown(folder):
  path = folder.parent / "mine.py"
  path.write_text(path.read_text().replace(f"{EVIL!r}: {{}}, ", ""))
  text = report(folder)["md"]
  assert "Not shown, runs that --experiment=" in text
  assert "2 of 2 cells are done." in text
