"""An experiment: a file of named overrides over a config, and its tables.

    SEEDS = range(5)           # default: the config's own seed alone
    RUNS = {"even": {"method": "avgmkd"}, "no angle": {"terms.angle": 0.0}}

    def get_config(text=""):   # the base; `text` as of --config
    def tabulate(results):     # {run: [result, ...]} -> [tables.Table, ...]

and where they are needed

    def get_runs(text):        # instead of RUNS; pairs may stand for a dict
    TEACH = False              # its cells use no teachers
    def teach(run, settings, workdir, view):  # the folder of a run's ensemble
    def run(settings, workdir, view):  # a cell's result, instead of training
    def draw(results):         # -> {title: a figure of matplotlib's}

A cell is one run under one seed.
"""

from __future__ import annotations

import ast
import dataclasses
import operator
import pathlib
import types
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from amtml_jax import checks, config, loading
from amtml_jax.checks import check, shown
from amtml_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Cell:
  """One run under one seed.

  Attributes:
    run: its name.
    seed: of the student.
    settings: the whole config.
  """

  run: str
  seed: int
  settings: ConfigDict

  @property
  def name(self) -> str:
    """What it is called, and its folder."""
    return f"{self.run}/{self.seed}"


@dataclasses.dataclass(frozen=True)
class Experiment:
  """What a file says.

  Attributes:
    argument: what it was named by.
    path: where it was found.
    module: what it defines.
    base: the config that its runs change.
    runs: names and dotted overrides, in order.
    seeds: of every run.
  """

  argument: str
  path: str
  module: types.ModuleType
  base: ConfigDict
  runs: tuple[tuple[str, dict[str, Any]], ...]
  seeds: tuple[int, ...]

  @property
  def flag(self) -> str:
    """The beginning of a sentence about it."""
    return f"--experiment={self.argument}"

  @property
  def title(self) -> str:
    """The first line of its docstring."""
    lines = (self.module.__doc__ or "").strip().splitlines()
    return lines[0].rstrip(".") if lines else pathlib.Path(self.path).stem

  def cells(
    self, base: ConfigDict, seeds: Sequence[int] = ()
  ) -> tuple[Cell, ...]:
    """Every cell, checked; seed by seed, so that half a sweep compares runs.

    Args:
      base: the config, perhaps with values of the command line's.
      seeds: instead of the experiment's own.

    Raises:
      UserError: a run's overrides give no config.
    """
    check(
      base.seeds == 1,
      f"{self.flag}: config.seeds={shown(base.seeds)} is the sweep's to "
      "choose; name the seeds by --seeds=0,1,2",
    )
    alike = [(name, self._settings(name, o, base)) for name, o in self.runs]
    made = []
    for seed in seeds or self.seeds or (base.seed,):
      for name, settings in alike:
        own = settings.copy_and_resolve_references()
        own.seed = seed
        made.append(Cell(name, seed, own))
    return tuple(made)

  def _settings(
    self, name: str, overrides: dict[str, Any], base: ConfigDict
  ) -> ConfigDict:
    """A run's config, checked."""
    settings = base.copy_and_resolve_references()
    where = f"{self.flag}, run {name!r}"
    for key, value in overrides.items():
      _override(settings, key, value, where)
    try:
      config.resolve(settings)
    except UserError as error:
      raise UserError(f"{where}: {error}") from None
    return settings


def _override(settings: ConfigDict, key: str, value: Any, where: str) -> None:
  """Sets what a dotted key names; `config.resolve` checks the value."""
  *above, last = key.split(".")
  with settings.unlocked(), settings.ignore_type():
    for part in above:
      if part not in settings:
        settings[part] = ConfigDict()  # the section of a term of one's own
      settings = settings[part]
      check(
        isinstance(settings, ConfigDict),
        f"{where}: config has no key {key!r}: {part} is a value",
      )
    settings[last] = value


def load(argument: str) -> Experiment:
  """An experiment's file, or one in experiments/ by its name, with `:text`.

  Raises:
    UserError: what is wrong with it, in one sentence.
  """
  name, colon, text = argument.partition(":")
  path = loading.found(name, loading.experiments(), "experiment")
  flag = f"--experiment={argument}"
  module = loading.module(path, flag)
  check(
    callable(getattr(module, "tabulate", None)),
    f"{flag} is no experiment: it has no function tabulate(results); see "
    "amtml_jax/experiment.py",
  )
  base = loading.config_of(module, path, flag, text if colon else None)
  get_runs = getattr(module, "get_runs", None)
  if callable(get_runs):
    runs = loading.called(get_runs, path, flag, text)
  else:
    runs = getattr(module, "RUNS", None)
  _refuse_lost_names(path, flag)
  seeds = _whole(getattr(module, "SEEDS", ()), f"{flag}: SEEDS")
  return Experiment(argument, path, module, base, _runs(runs, flag), seeds)


def _runs(runs: Any, flag: str) -> tuple[tuple[str, dict[str, Any]], ...]:
  """Names and overrides, checked."""
  pairs = list(runs.items()) if isinstance(runs, dict) else runs
  check(
    isinstance(pairs, list | tuple) and len(pairs) > 0,
    f"{flag} has no runs; RUNS names them: {{'even': {{'method': 'avgmkd'}}}}",
  )
  names = []
  for pair in pairs:
    check(
      isinstance(pair, list | tuple)
      and len(pair) == 2
      and isinstance(pair[1], dict)
      and all(isinstance(key, str) and key for key in pair[1]),
      f"{flag}: {shown(pair)} in RUNS is no name with a dict of overrides",
    )
    name, overrides = pair
    check(
      checks.fits(name, str)
      and 0 < len(name) <= 100
      and "/" not in name
      and name[0] != ".",
      f"{flag}: the run {shown(name)} cannot be a folder's name",
    )
    check(name not in names, f"{flag} has two runs called {name!r}")
    check(
      not {"seed", "seeds"} & set(overrides),
      f"{flag}, run {name!r}: seeds stand in SEEDS, not in the overrides",
    )
    names.append(name)
  return tuple((name, dict(overrides)) for name, overrides in pairs)


def _refuse_lost_names(path: str, flag: str) -> None:
  """Refuses a name that stands twice in a dict: Python drops the first."""
  for written in _written(ast.parse(pathlib.Path(path).read_bytes())):
    names = [k.value for k in written.keys if isinstance(k, ast.Constant)]
    twice = next((n for n in names if names.count(n) > 1), None)
    check(twice is None, f"{flag} has two runs called {twice!r}")


def _written(tree: ast.Module) -> Iterator[ast.Dict]:
  """The dicts that a file writes out as RUNS, or returns from get_runs."""
  found, names = [], {"RUNS"}
  for node in tree.body:
    if isinstance(node, ast.FunctionDef) and node.name == "get_runs":
      inside = list(ast.walk(node))
      given = [inner.value for inner in inside if isinstance(inner, ast.Return)]
      names |= {of.id for of in given if isinstance(of, ast.Name)}
      found += [*given, *_assigned(inside, names)]
  found += _assigned(tree.body, names)
  yield from (value for value in found if isinstance(value, ast.Dict))


def _assigned(nodes: list[Any], names: set[str]) -> list[ast.expr | None]:
  """What stands behind `NAME =`, for these names."""
  found = []
  for node in nodes:
    if isinstance(node, ast.Assign | ast.AnnAssign):
      of = node.targets if isinstance(node, ast.Assign) else [node.target]
      if names & {target.id for target in of if isinstance(target, ast.Name)}:
        found.append(node.value)
  return found


def _whole(values: Any, what: str) -> tuple[int, ...]:
  """Seeds: whole numbers, each once."""
  try:
    numbers = tuple(map(operator.index, values))
  except TypeError:
    numbers = (-1,)
  check(
    len(set(numbers)) == len(numbers)
    and all(0 <= n <= checks.LARGEST for n in numbers),
    f"{what}={shown(values)} must be whole numbers of at least 0, each once",
  )
  return numbers


def seeds(text: str) -> tuple[int, ...]:
  """What `--seeds=5,6,7` says."""
  parts = [p.strip() for p in text.split(",")]
  numbers = [int(p) if p.isdecimal() and len(p) < 11 else p for p in parts]
  return _whole(numbers, "--seeds")
