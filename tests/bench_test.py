"""The measuring stick gives every figure, and a trace opens."""

import gzip
import itertools
import json
import os

import numpy as np
import pytest

from amtml_jax import measure
from tests.cli_test import amtml

CONFIG = """
from tests.settings import blobs

def get_config(text=""):
  return blobs(method="avgmkd", teachers=("a=mlp_small",), batch_size=8)
"""


@pytest.fixture
def config(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(CONFIG)
  return path


def traced(folder):
  """The names of a trace's events."""
  (path,) = folder.rglob("perfetto_trace.json.gz")
  events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
  assert list(folder.rglob("*.xplane.pb"))
  return [event.get("name") for event in events]


def test_bench_measures_terms_teachers_step_and_command(
  config, tmp_path, capsys
):
  code = amtml(
    "bench",
    f"--config={config}",
    "--classes=3",
    "--image=8x8x1",
    "--rounds=2",
    "--only=angle,teachers,step,command",
    "--config.devices=1",
    f"--workdir={tmp_path / 'bench'}",
    "--profile",
  )
  assert code == 0
  result = json.loads((tmp_path / "bench" / "bench.json").read_text())
  assert result["config"]["batch_size"] == 8
  assert set(result["measured"]) == {"angle", "teachers", "step"}
  for line in result["measured"].values():
    assert len(line["turns"]) == 2
    assert line["images_per_second"] == pytest.approx(8 / line["seconds"])
    assert line["compile_seconds"] > 0
  # mlp_small: two layers of 64 and one of 3. The student's takes as much again
  # for its kernels, and for its layers' inputs but the image.
  forward = 8 * (64 * 64 + 64 * 64 + 64 * 3)
  backward = 2 * forward - 8 * 64 * 64
  measured = result["measured"]
  assert measured["teachers"]["flops"] == 2 * forward
  assert measured["step"]["flops"] == 2 * (2 * forward + backward)
  assert measured["angle"]["flops"] > 0
  # A step holds what its backward pass needs: more than one of its images.
  assert result["measured"]["step"]["temp_mb"] * 2**20 > 8 * 8
  assert len(result["command"]["turns"]) == 2
  pairs = zip(
    result["command"]["turns"], result["command"]["bare_turns"], strict=True
  )
  ratios = [loop / bare for loop, bare in pairs]
  assert result["command"]["over_step"] == pytest.approx(np.mean(ratios))
  assert {"jax", "flax"} <= set(result["versions"])
  assert result["cores"] == len(os.sched_getaffinity(0))
  out = capsys.readouterr().out
  assert "teachers" in out
  assert "times the bare step" in out
  assert traced(tmp_path / "bench" / "profile" / "step").count("step") == 10


def test_the_median_is_of_turns_and_the_ratio_of_pairs():
  a = measure.Side("a", lambda: None, seconds=[1.0, 4.0, 3.0])
  b = measure.Side("b", lambda: None, seconds=[1.0, 2.0, 1.0])
  assert a.median == 3.0
  assert measure.ratio(a, b) == 2.0


def test_sides_take_turns():
  seen = []
  sides = [
    measure.Side(name, lambda name=name: seen.append(name), wait=lambda _: None)
    for name in "ab"
  ]
  measure.alternate(sides, 2)
  # Warm a, b; then b, a; then a, b.
  assert "".join(name for name, _ in itertools.groupby(seen)) == "abab"
  assert [len(side.seconds) for side in sides] == [2, 2]


def test_ceilings_are_work_by_time():
  found = measure.ceilings("float32", size=64)
  assert 1e6 < found["flops"] < 1e15
  assert 1e6 < found["bytes"] < 1e15


def test_the_peak_is_what_was_held_at_once():
  held = measure.peak_added(lambda: np.ones(2**23).sum())  # 64 MB
  if held is None:
    pytest.skip("only Linux tells")
  assert 60 < held < 200
