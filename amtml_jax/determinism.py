"""The same bits in every run, also on GPUs, whose fastest kernels differ."""

from __future__ import annotations

import os

import jax

FLAG = "--xla_gpu_deterministic_ops"


def ask() -> None:
  """Asks XLA for deterministic kernels; before any device is used.

  What XLA_FLAGS says about them already stays.
  """
  flags = os.environ.get("XLA_FLAGS", "")
  if FLAG not in flags:
    os.environ["XLA_FLAGS"] = f"{flags} {FLAG}=true"


def warning() -> str:
  """What to say where a run cannot be equal to the bit; or nothing."""
  asked = f"{FLAG}=true" in os.environ.get("XLA_FLAGS", "").split()
  if asked or jax.default_backend() != "gpu":
    return ""
  return (
    f"warning: XLA_FLAGS={FLAG}=true was not set before jax's first use, so "
    "this run may differ in its last bits from another; config.deterministic="
    "False says that it may"
  )
