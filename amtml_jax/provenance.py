"""Which code made a result: the package's version and its last commit."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import pathlib
import subprocess
from typing import Any

from amtml_jax import __version__

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")
# What results depend on, from the package's own folder; a commit of results
# or of documents is no other code.
CODE = (".", ":(top)configs", ":(top)experiments/*.py")


def versions() -> dict[str, str]:
  """Of the package, and of those that it computes with."""
  return {"amtml-jax": __version__} | {p: _version(p) for p in PACKAGES}


# Asked once for every result of a sweep.
_version = functools.cache(importlib.metadata.version)


@functools.cache
def commit() -> str | None:
  """The last commit that changed the code; None outside of its repository.

  `+changes` stands behind it where the code is not what was committed.
  """
  # An installed package may lie inside of another project's repository.
  if _git("ls-files", "--error-unmatch", "provenance.py") is None:
    return None
  last = _git("log", "-1", "--format=%H", "--", *CODE)
  if not last:
    return None
  changes = _git("status", "--porcelain", "--", *CODE)
  return f"{last}+changes" if changes else last


def _git(*args: str) -> str | None:
  """What git says of the package's folder; None where it cannot."""
  # A hook of git's has variables that point to another place.
  own = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
  try:
    done = subprocess.run(
      ["git", *args],
      cwd=pathlib.Path(__file__).parent,
      env=own,
      capture_output=True,
      text=True,
      check=False,
      timeout=30,
    )
  except (OSError, subprocess.SubprocessError):
    return None
  return done.stdout.strip() if done.returncode == 0 else None


def told(result: dict[str, Any]) -> str:
  """The code that made a result, for a person."""
  versions, made = result["versions"], result["commit"]
  code = f"amtml-jax {versions.get('amtml-jax', '?')}"
  if made is not None:
    short, plus, changes = made.partition("+")
    code += f", commit {short[:8]}{plus}{changes}"
  return f"{code}, jax {versions.get('jax', '?')}"


def is_ours(result: dict[str, Any]) -> bool:
  """Whether the code that is at hand made a result, as far as can be known."""
  known = commit() is None or result["commit"] == commit()
  packages = ("amtml-jax", "jax")
  return known and all(
    result["versions"].get(p) == versions()[p] for p in packages
  )
