"""Compiled programs are kept between commands, where nobody says otherwise.

JAX_COMPILATION_CACHE_DIR says where, JAX_ENABLE_COMPILATION_CACHE=0 that not.
"""

from __future__ import annotations

import functools
import glob
import os
import pathlib
import re
import warnings
from typing import Any

import jax

DAMAGED = r"Error reading persistent compilation cache entry for '(.*?)'"


def use() -> None:
  """Keeps them under `~/.cache/amtml_jax`, and mends what is damaged there."""
  if not jax.config.jax_compilation_cache_dir:
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = pathlib.Path(home) / "amtml_jax"
    jax.config.update("jax_compilation_cache_dir", str(folder))
  warnings.showwarning = functools.partial(_mended, warnings.showwarning)


def _mended(show: Any, message: Warning, *more: Any, **keywords: Any) -> None:
  """Removes damaged programs, instead of warning of them for ever.

  jax does not write them in one go: a kill leaves half of one, and jax, which
  compiles anew when it cannot read it, never writes over a file that is there.
  """
  found = re.match(DAMAGED, str(message))
  if not found:
    show(message, *more, **keywords)
    return
  folder = pathlib.Path(jax.config.jax_compilation_cache_dir)
  for path in folder.glob(f"{glob.escape(found[1])}-*-cache"):
    path.unlink(missing_ok=True)
