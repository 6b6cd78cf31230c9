"""Departures of the notebooks, costs and cases, against what is known."""

import numpy as np
import pytest

from amtml_jax import charts, config, experiment
from amtml_jax.listening import Heard
from amtml_jax.methods import METHODS, PAPER
from amtml_jax.progress import View
from amtml_jax.types import Dataset
from experiments import cases, notebook_vs_paper
from tests.settings import blobs


def resolved(settings):
  run = config.resolve(settings)
  return {**config.as_dict(run), "method": ""}


def test_every_departure_of_the_notebooks_is_in_exactly_one_run():
  found = experiment.load("notebook_vs_paper")
  runs = dict(found.runs)
  assert runs.pop("amtml") == {"method": "amtml"}
  assert runs.pop("amtml_notebook") == {"method": "amtml_notebook"}
  seen = {}
  for own in runs.values():
    assert own.pop("method") == "amtml"
    assert own
    assert not seen.keys() & own.keys()
    seen |= own
  # By hand what the terms differ in; the settings are the preset's own.
  settings = METHODS["amtml_notebook"]["settings"]
  assert seen == {"terms.kd": 1.4, "terms.distance": 1.0, **settings}
  assert all(value != PAPER[key] for key, value in settings.items())
  # And all of them together are the preset: nothing is forgotten.
  every = found.base.copy_and_resolve_references()
  for key, value in {"method": "amtml", **seen}.items():
    experiment._override(every, key, value, "")
  whole = found.base.copy_and_resolve_references()
  whole.method = "amtml_notebook"
  assert resolved(every) == resolved(whole)


@pytest.mark.parametrize("run", notebook_vs_paper.get_runs())
def test_a_departure_changes_the_run(run):
  found = experiment.load("notebook_vs_paper")
  cells = {c.run: c.settings for c in found.cells(found.base, (0,))}
  if run != "amtml":
    assert resolved(cells[run]) != resolved(cells["amtml"])


def test_the_cost_of_a_step_with_and_without_teachers(tmp_path):
  module = experiment.load("cost").module
  module.ROUNDS = 2
  cells = {"camkd": []}
  for method in ("alone", "avgmkd"):
    settings = blobs(method=method, batch_size=8, devices=1)
    settings.data.views = 2
    found = module.run(settings, tmp_path, View())
    cells[method] = [{"seed": 0, "result": found}]
  alone, taught = (cells[m][0]["result"] for m in ("alone", "avgmkd"))
  assert set(alone["measured"]) == {"step"}
  assert set(taught["measured"]) == {"step", "kept"}
  for line in (*alone["measured"].values(), *taught["measured"].values()):
    assert len(line["turns"]) == len(alone["alone_turns"]) == 2
    assert line["images_per_second"] == pytest.approx(8 / line["seconds"])
    ratio = np.median(np.divide(line["turns"], taught["alone_turns"]))
    if line in taught["measured"].values():
      assert line["over_alone"] == pytest.approx(ratio)
  # Two networks of 3072 x 64 weights and more lie on the device beside it.
  more = taught["measured"]["step"]["held_mb"]
  more -= alone["measured"]["step"]["held_mb"]
  assert more * 2**20 > 2 * 3072 * 64 * 4
  (table,) = module.tabulate(cells)
  assert table.wrong() is None
  rows = {row[0]: row for row in table.rows}
  assert rows["camkd"][1:] == (None,) * 10
  assert rows["alone"][6:] == (None,) * 5
  ratio = taught["measured"]["step"]["over_alone"]
  assert rows["avgmkd"][3] == f"{ratio:.2f}"
  assert table.bars["step"]["avgmkd"] == (ratio, 0.0)
  assert set(table.bars["kept"]) == {"avgmkd"}


def heard():
  """Four images of two classes, of which the third is contested."""
  says = np.array([[0, 0, 1, 0], [0, 0, 0, 0]])  # teacher × image
  logits = np.float32(5 * np.log(3)) * np.eye(2, dtype=np.float32)[says]
  weights = np.array([[0.5, 0.5], [0.75, 0.25], [0.9, 0.1], [0.5, 0.5]])
  label = np.array([0, 0, 1, 1])
  return Heard(label, logits[0], logits, np.log(weights))


def test_the_figures_of_a_case_by_hand():
  found = cases.figures(heard(), ("x", "y", "z"))
  # Image 3 both get wrong; of image 2 the first teacher alone is right.
  assert found["contested"] == 1
  assert found["weight_on_right"] == pytest.approx(0.9)
  assert found["even_on_right"] == 0.5
  assert [line["class"] for line in found["by_class"]] == ["x", "y"]
  assert found["by_class"][0]["weights"] == pytest.approx([0.625, 0.375])
  assert found["by_class"][1]["weights"] == pytest.approx([0.7, 0.3])
  # Point-biserial: (M1 - M0) / s · sqrt(n1 n0 / n²) over the 8 pairs, of which
  # five are right, with weights .5 .5 .75 .25 .9: M1 = .58; M0 = 1.1 / 3.
  variance = (4 * 0.25 + 0.75**2 + 0.25**2 + 0.9**2 + 0.1**2) / 8 - 0.25
  expected = (0.58 - 1.1 / 3) / variance**0.5 * (5 * 3 / 64) ** 0.5
  assert found["correlation"] == pytest.approx(expected)


def test_what_never_changes_has_no_correlation():
  right = np.array([[True, False]])
  assert cases.correlation(np.array([[0.5, 0.5]]), right) is None
  assert cases.correlation(np.array([[0.7, 0.3]]), right | True) is None
  assert cases.correlation(np.array([[0.7, 0.3]]), right) == pytest.approx(1.0)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_images_of_the_widest_weights_are_drawn(channels):
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (4, 2, 3, channels)).astype(np.uint8)
  test = Dataset(image, heard().label, ("x", "y"))
  found = cases.pictures(heard(), test, ("<a>", "b"), temperature=5.0)
  # One a class at most, the wider one first.
  assert [(one["row"], one["class"]) for one in found] == [(2, "y"), (1, "x")]
  first = found[0]["teachers"]
  assert [t["weight"] for t in first] == [0.9, 0.1]
  assert first[0]["soft_target"] == pytest.approx([0.25, 0.75])
  pixels = bytes.fromhex("".join(found[0]["pixels"]))
  assert pixels == image[2].tobytes()
  assert found[0]["shape"] == [2, 3, channels]
  svg = charts.svg(cases.drawn(found), "f")
  assert "&lt;a&gt;" in svg
  assert ">0.90<" in svg
  assert svg.count("data:image/png") == 2


@pytest.mark.parametrize("letters", [5, 12, 20, 60])
def test_a_legend_of_many_runs_fits_its_figure(letters):
  names = [f"{number:0{letters}}" for number in range(31)]
  line = ([1, 2], [0.5, 0.6], [0.4, 0.5], [0.6, 0.7])
  figure = charts.curves(dict.fromkeys(names, line), "%")
  figure.draw_without_rendering()
  (legend,) = figure.legends
  assert legend.get_window_extent().x1 <= figure.bbox.x1
