"""A short crash campaign; the long one is experiments/crash_campaign.py."""

from experiments import crash_campaign


def test_three_kills_cost_nothing(tmp_path, monkeypatch):
  # Its own: a kill may leave half a program, and warnings are errors here.
  cache = tmp_path / "cache"
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache))
  monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
  counts = crash_campaign.campaign(kills=3, folder=tmp_path / "runs")
  assert counts["killed"] == 3
  assert counts["killed in save"] == 1
  assert counts["lost"] == 0
  assert counts["bit-equal"] == counts["ended"] >= 1
  # A save in flight dies with the run: the one before it is there.
  assert counts["most at once"] <= 2 * crash_campaign.STEPS + 1
