"""XLA is asked for deterministic kernels, and a run without them says so."""

import jax

from amtml_jax import determinism


def test_asked_once_and_what_is_there_stays(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "--a=1")
  determinism.ask()
  determinism.ask()
  assert determinism.os.environ["XLA_FLAGS"] == f"--a=1 {determinism.FLAG}=true"
  monkeypatch.setenv("XLA_FLAGS", f"{determinism.FLAG}=false")
  determinism.ask()
  assert determinism.os.environ["XLA_FLAGS"] == f"{determinism.FLAG}=false"


def test_only_a_gpu_without_them_is_warned_of(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", f"{determinism.FLAG}=false")
  assert determinism.warning() == ""
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert "may differ in its last bits" in determinism.warning()
  monkeypatch.setenv("XLA_FLAGS", f"--a=1 {determinism.FLAG}=true")
  assert determinism.warning() == ""
