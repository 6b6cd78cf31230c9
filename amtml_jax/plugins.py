"""Finds a model, adapter, term or data source by the name of its file.

A name is a file in the package's own folder (`plugins.module("losses", "kd")`)
or, with a dot in it, the path of a user's module that obeys the same contract.
An architecture family lists its members in `VARIANTS`, so that a network is
found by its own name: `plugins.network("resnet20")`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import Any

from amtml_jax.errors import UserError

# What a folder's plug-ins are called in a sentence.
KINDS = {
  "adapters": "adapter",
  "data": "data source",
  "losses": "term",
  "models": "model",
}
# The attribute that makes a file of the folder a plug-in.
CONTRACT = {
  "adapters": "Adapter",
  "data": "load",
  "losses": "Term",
  "models": "Model",
}


@functools.cache
def names(folder: str) -> tuple[str, ...]:
  """The plug-ins of a folder, sorted by name."""
  package = importlib.import_module(f"amtml_jax.{folder}")
  found = (info.name for info in pkgutil.iter_modules(package.__path__))
  return tuple(
    sorted(n for n in found if hasattr(module(folder, n), CONTRACT[folder]))
  )


@functools.cache
def module(folder: str, name: str) -> ModuleType:
  """The file of `folder` called `name`, or a user's module with a dot in it."""
  path = name if "." in name else f"amtml_jax.{folder}.{name}"
  try:
    return importlib.import_module(path)
  except ModuleNotFoundError as error:
    # Only the plug-in itself may be missing; what it imports is its matter.
    if error.name is None or not f"{path}.".startswith(f"{error.name}."):
      raise
    known = ", ".join(names(folder))
    raise UserError(
      f"there is no {KINDS[folder]} called {name!r}; known: {known} (or the "
      "module path of your own)"
    ) from None


def find(folder: str, name: str) -> Any:
  """The class or function that `CONTRACT` names in a plug-in's file."""
  plugin = module(folder, name)
  if not hasattr(plugin, CONTRACT[folder]):
    raise UserError(
      f"{plugin.__name__} is no {KINDS[folder]}: it has no {CONTRACT[folder]}"
    )
  return getattr(plugin, CONTRACT[folder])


@functools.cache
def networks() -> dict[str, Callable[..., Any]]:
  """Every network that the package knows, by its own name."""
  return {
    variant: build
    for family in names("models")
    for variant, build in module("models", family).VARIANTS.items()
  }


def network(name: str) -> Callable[..., Any]:
  """A model's constructor: `resnet20`, or `your.module[:variant]`."""
  if "." in name:
    path, _, variant = name.partition(":")
    variants = getattr(module("models", path), "VARIANTS", {})
    if not variant:
      return find("models", path)
    if variant in variants:
      return variants[variant]
    raise UserError(
      f"{path} has no network called {variant!r}; known: {', '.join(variants)}"
    )
  if name not in networks():
    raise UserError(
      f"there is no model called {name!r}; known: {', '.join(networks())} "
      "(or the module path of your own)"
    )
  return networks()[name]
