"""Configs and experiments: files found by path or by name, and run here.

The package imports neither: each is a program of the user's, and what it
raises is told in one sentence.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import types
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from amtml_jax import checks
from amtml_jax.errors import UserError


def _files(package: str) -> dict[str, pathlib.Path]:
  """The files of a folder that comes with the package, by name."""
  spec = importlib.util.find_spec(package)
  folder = pathlib.Path(next(iter(spec.submodule_search_locations)))
  return {p.stem: p for p in sorted(folder.glob("[!_]*.py"))}


def configs() -> dict[str, pathlib.Path]:
  """The configs that come with the package, by name."""
  return _files("amtml_jax.configs")


def experiments() -> dict[str, pathlib.Path]:
  """The experiments that come with the package, by name.

  Other scripts, and what they share, lie in the same folder.
  """
  return {
    name: path
    for name, path in _files("amtml_jax.experiments").items()
    if "\ndef tabulate(" in path.read_text(encoding="utf-8")
  }


def found(argument: str, known: dict[str, pathlib.Path], kind: str) -> str:
  """The path of what is named, by its path or by a known name.

  Raises:
    UserError: there is none.
  """
  path = str(known.get(argument, argument))
  if not os.path.isfile(path):  # pathlib's raises for a name too long
    raise UserError(
      f"there is no {kind} {argument!r}: neither a file nor one of "
      f"{', '.join(known)}"
    )
  return path


def module(path: str, flag: str) -> types.ModuleType:
  """What the file defines; `flag` begins the sentence of one that fails."""
  made = types.ModuleType("amtml_config")
  made.__file__ = path

  def execute() -> None:
    code = compile(pathlib.Path(path).read_bytes(), path, "exec")
    exec(code, made.__dict__)  # a config is a program

  called(execute, path, flag)
  return made


def called(
  function: Callable[..., Any], path: str, flag: str, *args: Any
) -> Any:
  """What a function of the file gives.

  Raises:
    UserError: the file, its line, and what is wrong with it.
  """
  try:
    return function(*args)
  except (Exception, SystemExit) as error:
    raise UserError(f"{flag}: {checks.told(error, path)}") from None


def config_of(
  made: types.ModuleType, path: str, flag: str, text: str | None
) -> ConfigDict:
  """What `get_config` of a file gives, with `text` where there is one.

  Raises:
    UserError: it gives no ConfigDict.
  """
  get_config = getattr(made, "get_config", None)
  config = None
  if callable(get_config):
    args = () if text is None else (text,)
    config = called(get_config, path, flag, *args)
  if not isinstance(config, ConfigDict):
    gives = "gives no ConfigDict" if callable(get_config) else "is missing"
    raise UserError(
      f"{flag}: its function get_config() {gives}; return "
      "amtml_jax.defaults.defaults() with what differs"
    )
  return config


def load_config(argument: str) -> ConfigDict:
  """What `get_config` gives of a file, or of one in configs/, with `:text`.

  Run here and not by config_flags, which raises whatever the file raises, and
  keeps some of it until a value is read.
  """
  name, colon, text = argument.partition(":")
  path, flag = found(name, configs(), "config"), f"--config={argument}"
  return config_of(module(path, flag), path, flag, text if colon else None)
