"""Means by hand, and a log that an interruption tore."""

import json

import numpy as np
import pytest

from amtml_jax import metrics


def pair(values, counts):
  return np.array(values, np.float32), np.array(counts, np.float32)


def test_means_weigh_by_count():
  sums = {}
  metrics.add(sums, {"x": pair([2.0, 4.0], [1, 2])})
  metrics.add(sums, {"x": pair([6.0], [3])})
  assert metrics.means(sums) == {"x": 2.0}
  assert json.loads(json.dumps(sums)) == sums


def test_students_have_means_of_their_own():
  sums = {}
  metrics.add(sums, {"x": pair([[2.0, 1.0], [4.0, 1.0]], [[1, 1], [2, 1]])})
  sums = json.loads(json.dumps(sums))
  metrics.add(sums, {"x": pair([[6.0, 2.0]], [[3, 2]])})
  # 12 of 6 and 4 of 4.
  assert metrics.of_each(sums, 2) == [{"x": 2.0}, {"x": 1.0}]
  assert metrics.means(sums) == {"x": 1.6}


@pytest.mark.parametrize(
  ("term", "found"),
  [([1.0, np.nan, 1.0], (1, "kd")), ([1.0, 1.0, np.inf], (2, "kd"))],
)
def test_the_first_step_and_the_term_that_is_no_number(term, found):
  ones = [1.0] * 3
  parts = {
    "gradient_norm": pair(term, ones),
    "angle": pair(ones, ones),
    "kd": pair(term, ones),
    "loss": pair(term, ones),
  }
  assert metrics.first_not_finite(parts)[:2] == found
  parts["kd"] = pair(ones, ones)
  assert metrics.first_not_finite(parts)[1] == "gradient_norm"


def test_finite_parts_are_left_alone():
  assert metrics.first_not_finite({"loss": pair([1.0], [1.0])}) is None


def test_lines_of_steps_that_are_done_again_are_dropped(tmp_path):
  log = metrics.Log(tmp_path, 0)
  for step in (1, 2, 3):
    log.write({"phase": "x", "step": step, "train/loss": 0.5, "seconds": 1.0})
  log.close()
  with (tmp_path / metrics.FILE).open("ab") as file:
    # Damaged ones, and one that was killed while it wrote.
    file.write(b'\xff\n[]\n{"step": "x"}\n{"step": 9}\n{"phase": "x", "st')
  assert [line["step"] for line in metrics.read(tmp_path)] == [1, 2, 3]
  log = metrics.Log(tmp_path, 3)
  log.write({"phase": "x", "step": 4, "train/loss": 0.5, "seconds": 1.0})
  log.close()
  assert [line["step"] for line in metrics.read(tmp_path)] == [1, 2, 3, 4]
  log = metrics.Log(tmp_path, 2)
  log.write({"phase": "x", "step": 3, "train/loss": 0.25, "seconds": 1.0})
  log.close()
  lines = metrics.read(tmp_path)
  assert [line["train/loss"] for line in lines] == [0.5, 0.5, 0.25]
