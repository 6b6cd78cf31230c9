"""One sentence for every value of a config that cannot be."""

from __future__ import annotations

import math
from typing import Any

from ml_collections import ConfigDict

from amtml_jax.errors import UserError


def check(holds: bool, sentence: str) -> None:
  """Refuses with the sentence what does not hold."""
  if not holds:
    raise UserError(sentence)


def known(value: str, known: tuple[str, ...], key: str) -> None:
  """Refuses a value that is not one of a few."""
  check(
    value in known,
    f"config.{key}={value!r} is not known; known: {', '.join(known)}",
  )


def at(config: ConfigDict, key: str) -> Any:
  """What stands under a dotted key."""
  for part in key.split("."):
    config = config[part]
  return config


def whole(config: ConfigDict, key: str, least: int) -> int:
  """The whole number under a dotted key."""
  value = at(config, key)
  check(
    isinstance(value, int) and not isinstance(value, bool) and value >= least,
    f"config.{key}={value!r} must be a whole number of at least {least}",
  )
  return value


def number(
  config: ConfigDict, key: str, low: float, high: float, *, open_low=False
) -> float:
  """The finite number under a dotted key, within its bounds."""
  value = at(config, key)
  inside = (
    isinstance(value, int | float)
    and not isinstance(value, bool)
    and math.isfinite(value)
    and (value > low if open_low else value >= low)
    and value <= high
  )
  bound = "above" if open_low else "of at least"
  upper = "" if high == math.inf else f" and at most {high:g}"
  check(
    inside, f"config.{key}={value!r} must be a number {bound} {low:g}{upper}"
  )
  return float(value)
