"""One sentence for every value that cannot be, in a config or in a file.

A value is held against its kind:

- `bool`, `int`, `float`, `str`, `None`: just that; an int does for a float
- `Annotated[int, Range(1)]`: a number within bounds
- `Literal["a", "b"]`: one of a few
- a union, or `[kind, kind]` where one of them is a dict: any of them
- `tuple[int, ...]`, `tuple[int, int]`: a tuple, or a list
- `{"a": kind, "b?": kind, ...: kind}`: a dict; b may be missing, and the rest
  is of the last kind, or there is none
- `Any` and every other type: what JSON can say
"""

from __future__ import annotations

import dataclasses
import traceback
import types
import typing
import unicodedata
from typing import Any, Literal

from amtml_jax.errors import UserError

# What fits into the 32 bits that programs compute with.
LARGEST = 2**31 - 1
LARGEST_FLOAT = 3.4e38
NAMES = {
  bool: "True or False",
  float: "a number",
  int: "a whole number",
  str: "a line of text",
  types.NoneType: "None",
}


@dataclasses.dataclass(frozen=True)
class Range:
  """The bounds of a number; with `above` or `below` they are out themselves."""

  low: float
  high: float = LARGEST_FLOAT
  above: bool = False
  below: bool = False

  def __contains__(self, value: float) -> bool:
    low = self.low < value if self.above else self.low <= value
    return low and (value < self.high if self.below else value <= self.high)

  def __str__(self) -> str:
    text = f"{'above' if self.above else 'of at least'} {self.low}"
    if self.high == LARGEST_FLOAT:
      return text
    return f"{text} and {'below' if self.below else 'at most'} {self.high}"


def check(holds: bool, sentence: str) -> None:
  """Refuses with the sentence what does not hold."""
  if not holds:
    raise UserError(sentence)


def wrong(value: Any, kind: Any, key: str) -> str | None:
  """What is wrong with the value under a key, None where it is of its kind."""
  if isinstance(kind, dict):
    return _wrong_dict(value, kind, key)
  if isinstance(kind, list):
    found = [wrong(value, k, key) for k in kind]
    return found[0] if all(found) else None
  if fits(value, kind):
    return None
  if typing.get_origin(kind) is Literal:
    known = ", ".join(map(str, typing.get_args(kind)))
    return f"{key}={shown(value)} is not known; known: {known}"
  large = isinstance(value, int | float) and abs(value) > LARGEST_FLOAT
  fit = " that fits into 32 bits" if large else ""
  return f"{key}={shown(value)} must be {_described(kind)}{fit}"


def _wrong_dict(value: Any, kind: dict, key: str) -> str | None:
  known = {n.removesuffix("?"): k for n, k in kind.items() if n is not ...}
  listed = ", ".join(known)
  if not isinstance(value, dict):
    return f"{key or 'it'}={shown(value)} must have keys: {listed}"
  above = f"{key}." if key else ""
  for name in known:
    if name in kind and name not in value:
      return f"{above}{name} is missing"
  for name, inner in value.items():
    if name not in known and ... not in kind:
      return f"{key or 'it'} has no key {name!r}; known: {listed}"
    found = wrong(inner, known.get(name, kind.get(...)), f"{above}{name}")
    if found:
      return found
  return None


def fits(value: Any, kind: Any) -> bool:
  """Whether a value is of a kind that is no dict."""
  origin, of = typing.get_origin(kind), typing.get_args(kind)
  if origin is typing.Annotated:
    bounds = [r for r in of[1:] if isinstance(r, Range)]
    return fits(value, of[0]) and all(value in r for r in bounds)
  if origin is Literal:
    return any(type(value) is type(v) and value == v for v in of)
  if origin in (typing.Union, types.UnionType):
    return any(fits(value, k) for k in of)
  if kind is tuple or origin is tuple:
    of = of or (Any, ...)
    if not isinstance(value, tuple | list):
      return False
    of = of[:1] * len(value) if of[-1] is ... else of
    return len(of) == len(value) and all(map(fits, value, of))
  if kind is None or kind is types.NoneType:
    return value is None
  if kind is bool or isinstance(value, bool):
    return isinstance(value, bool) and kind not in (int, float, str)
  if kind is int:
    return isinstance(value, int)
  if kind is float:  # NaN is within no bounds
    number = isinstance(value, int | float)
    return number and -LARGEST_FLOAT <= value <= LARGEST_FLOAT
  if kind is str:
    return isinstance(value, str) and not any(map(_breaks, value))
  if isinstance(value, dict):
    return all(isinstance(k, str) and fits(v, Any) for k, v in value.items())
  plain = None | float | str | tuple[Any, ...]
  return fits(value, plain)


def _breaks(character: str) -> bool:
  """Whether it would break a line, a path or a terminal."""
  return unicodedata.category(character) in ("Cc", "Zl", "Zp")


def _described(kind: Any) -> str:
  origin, of = typing.get_origin(kind), typing.get_args(kind)
  if origin is typing.Annotated:
    return f"{_described(of[0])} {of[1]}"
  if origin is Literal:
    return f"one of {', '.join(map(str, of))}"
  if origin in (typing.Union, types.UnionType):
    return " or ".join(map(_described, of))
  if origin is tuple and of[-1] is ...:
    return f"a tuple, each of it {_described(of[0])}"
  if origin is tuple:
    return f"a tuple of {len(of)}, each of it {_described(of[0])}"
  return NAMES.get(kind, "what JSON can say")


def taken(value: Any, kind: Any) -> Any:
  """The value with tuples for lists, and floats where they are meant."""
  if isinstance(kind, dict) and isinstance(value, dict):
    rest = kind.get(..., Any)
    kinds = {n: kind.get(n, kind.get(f"{n}?", rest)) for n in value}
    return {n: taken(v, kinds[n]) for n, v in value.items()}
  of = typing.get_args(kind)
  if isinstance(value, tuple | list):
    inner = of[0] if typing.get_origin(kind) is tuple else Any
    return tuple(taken(v, inner) for v in value)
  if type(value) is int and (kind is float or float in _flat(kind)):
    return float(value)
  return value


def _flat(kind: Any) -> set[Any]:
  """The types that a kind is made of; none where it keeps whole numbers."""
  of = typing.get_args(kind)
  found = set().union(*map(_flat, of)) if of else {kind}
  return set() if int in found else found


def shown(value: Any) -> str:
  """A value in a sentence: on one line, and not too long."""
  try:
    text = " ".join(repr(value).split())
  except Exception:  # a number too long to print, or anybody's own class
    text = f"<{type(value).__name__}>"
  return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def told(error: BaseException, path: str = "") -> str:
  """What went wrong in a user's own file, and where, on one line."""
  text = " ".join(str(error).split())
  if isinstance(error, UserError):
    return text
  text = text[:300]
  if not isinstance(error, ValueError):
    text = f"{type(error).__name__}: {text}"
  if isinstance(error, SyntaxError):  # says its place itself
    return text
  frames = traceback.extract_tb(error.__traceback__)
  own = [f for f in frames if f.filename == (path or f.filename) and f.line]
  return f"{text} ({own[-1].filename}, line {own[-1].lineno})" if own else text
