"""XLA has threads enough for fake devices that wait for each other."""

import os
import pathlib

import jax
import pytest

from amtml_jax import fake_devices


@pytest.mark.parametrize(
  ("xla_flags", "before", "after"),
  [
    ("", None, None),
    (f"{fake_devices.FLAG}=1", None, None),
    (f"--a=1 {fake_devices.FLAG}=4 --b", None, "64"),
    (f"{fake_devices.FLAG}=4 {fake_devices.FLAG}=8", None, "128"),
    (f"{fake_devices.FLAG}=4", "7", "64"),
    (f"{fake_devices.FLAG}=4", "99", "99"),
    ("", "7", "7"),
  ],
)
def test_threads_are_asked_for(xla_flags, before, after, monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", xla_flags)
  monkeypatch.delenv("NPROC", raising=False)
  if before:
    monkeypatch.setenv("NPROC", before)
  fake_devices.make_room()
  assert os.environ.get("NPROC") == after


def test_xla_has_them():
  # With as many as devices, four programs of independent collectives hang.
  assert len(jax.devices()) == 4
  threads = pathlib.Path("/proc/self/task")
  if not threads.exists():
    pytest.skip("the system does not list threads")
  names = [(t / "comm").read_text().strip() for t in threads.iterdir()]
  assert sum("Eigen" in name for name in names) >= 64, sorted(set(names))
