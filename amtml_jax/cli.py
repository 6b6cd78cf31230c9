"""The `amtml` command: flags in, exit code out; the work is elsewhere."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from amtml_jax import interrupt
from amtml_jax.errors import (
  InterruptedRun,
  NotSavedError,
  Stop,
  Terminated,
  UserError,
)
from amtml_jax.loading import configs, experiments, load_config
from amtml_jax.usage import USAGE


def _joined(argv: Sequence[str], name: str) -> list[str]:
  """`--config digits` -> `--config=digits`."""
  argv = list(argv)
  while f"--{name}" in argv[:-1]:
    place = argv.index(f"--{name}")
    argv[place : place + 2] = [f"--{name}={argv[place + 1]}"]
  return argv


def parse(
  argv: Sequence[str], base: ConfigDict | None = None, **own: str | bool | None
) -> flags.FlagValues:
  """Reads the flags of one command; `own` are its own, with defaults.

  A command that has a workdir takes a config, too: a ConfigDict, without one
  `base`.

  Raises:
    UserError: for what config_flags and absl show as a traceback.
  """
  config, argv = base, [argv[0], *_joined(argv[1:], "config")]
  if "workdir" in own:
    named = [a for a in argv if re.match("--?config(=|$)", a)]
    argv = [a for a in argv if a not in named]
    if named:
      config = load_config(named[-1].partition("=")[2])
    for flag in argv:
      override = re.match(r"--?(?:no)?(config\.[^=]*)", flag)
      if override and config is None:
        raise UserError(f"{flag} needs --config=FILE beside it")
      if override:
        _refuse_unknown(override[1], config)
  values = flags.FlagValues()
  for name, default in own.items():
    truth = isinstance(default, bool)
    define = flags.DEFINE_boolean if truth else flags.DEFINE_string
    define(name, default, "", flag_values=values)
  try:
    if config is None:
      flags.DEFINE_string("config", None, "", flag_values=values)
    else:
      config_flags.DEFINE_config_dict(
        "config", config, flag_values=values, sys_argv=argv
      )
    rest = values(argv)
  except flags.Error as error:
    raise UserError(_last_line(error)) from None
  except Exception as error:  # what config_flags makes of a value
    raise UserError(
      f"--config: {type(error).__name__}: {_last_line(error)}"
    ) from None
  if len(rest) > 1:
    raise UserError(f"what is {rest[1]!r}? `amtml help` shows the flags")
  return values


def _refuse_unknown(key: str, config: Any) -> None:
  """Names the known keys beside one that the config does not have."""
  above = "config"
  for part in key.split(".")[1:]:
    if not hasattr(config, "keys") or part not in config:
      known = ", ".join(config) if hasattr(config, "keys") else "none"
      raise UserError(f"{above} has no key {part!r}; known: {known}")
    above, config = f"{above}.{part}", config[part]


def _last_line(error: Exception) -> str:
  """What the error says, without the traceback that config_flags quotes."""
  lines = str(error.args[0] if error.args else error).strip().splitlines()
  return lines[-1].strip().removeprefix("ValueError: ") if lines else ""


def _prepare_jax(*, deterministic: bool, keep: bool = True) -> None:
  """Sets what is set once; XLA reads its flags at the first device's use.

  Compiled programs are not kept where compiling is what is measured.
  """
  from absl import logging

  from amtml_jax import compile_cache, determinism, fake_devices

  fake_devices.make_room()
  if deterministic:
    determinism.ask()
  if keep:
    compile_cache.use()
  # Orbax logs a traceback for what is told in one sentence here.
  logging.set_verbosity(logging.FATAL)
  sys.unraisablehook = _quiet


def _quiet(unraisable: Any) -> None:
  """Orbax's readers of a damaged checkpoint outlive their event loop."""
  if str(unraisable.exc_value) != "Event loop is closed":
    sys.__unraisablehook__(unraisable)


def _train(command: str, argv: Sequence[str]) -> None:
  values = parse(
    argv,
    workdir="",
    profile=False,
    coordinator="",
    num_processes="",
    process_id="",
  )
  if values.config is None:
    raise UserError(f"amtml {command} needs --config, such as --config=digits")
  if not values.workdir:
    raise UserError(f"amtml {command} needs --workdir, a folder to write to")
  from amtml_jax import commands, config, processes, profile, report
  from amtml_jax.progress import View

  _prepare_jax(deterministic=config.resolve(values.config).deterministic)
  if values.process_id == "0":
    print(f"waiting for all processes at {values.coordinator}", flush=True)
  processes.start(values.coordinator, values.num_processes, values.process_id)
  view = View()
  do, workdir = getattr(commands, command), pathlib.Path(values.workdir)
  with contextlib.ExitStack() as around:
    around.enter_context(processes.together())
    if values.profile:
      around.enter_context(profile.asked(workdir / "profile", view.say))
    result = do(values.config, workdir, view)
  if isinstance(result, dict):
    view.console.print(report.table(result))
    view.say(f"written: {workdir / report.SUMMARY}")


def _sweep(argv: Sequence[str]) -> None:
  argv = _joined(argv, "experiment")
  named = [a for a in argv if re.match("--?experiment=.", a)]
  if not named:
    raise UserError(
      "amtml sweep needs --experiment, such as --experiment=compare_methods"
    )
  from amtml_jax import config, experiment, processes, reporting, sweep, tables
  from amtml_jax.progress import View

  found = experiment.load(named[-1].partition("=")[2])
  values = parse(
    argv,
    found.base,
    experiment="",
    workdir="",
    index=None,
    seeds=None,
    coordinator="",
    num_processes="",
    process_id="",
  )
  if not values.workdir:
    raise UserError("amtml sweep needs --workdir, a folder to write to")
  # An empty one, of a variable that is not set, does not ask for all.
  seeds, index = (), None
  if values.seeds is not None:
    seeds = experiment.seeds(values.seeds)
  if values.index is not None:
    if not re.fullmatch("[0-9]{1,9}", values.index):
      raise UserError(f"--index={values.index} must be a cell's number, from 0")
    index = int(values.index)
  _prepare_jax(deterministic=config.resolve(values.config).deterministic)
  processes.start(values.coordinator, values.num_processes, values.process_id)
  view, workdir = View(), pathlib.Path(values.workdir)
  with processes.together():
    cells = sweep.Sweep(found, values.config, workdir, view, seeds, index)
    there = cells.run()
  if index is None:
    for table in reporting.tables(there, found):
      view.console.print(tables.rich(table))
  view.say(f"written: {there.folder}; `amtml report {workdir}` draws it")


def _report(argv: Sequence[str]) -> None:
  if len(argv) < 2 or argv[1].startswith("-"):
    raise UserError("amtml report needs a sweep's folder first: runs/compare")
  values = parse([argv[0], *argv[2:]], experiment="")
  from amtml_jax import reporting
  from amtml_jax.progress import View

  reporting.write(pathlib.Path(argv[1]), values.experiment, View())


def _bench(argv: Sequence[str]) -> None:
  from amtml_jax import bench, config
  from amtml_jax.progress import View

  values = parse(argv, **bench.FLAGS)
  if values.config is None:
    raise UserError("amtml bench needs --config, such as --config=cifar")
  _prepare_jax(
    deterministic=config.resolve(values.config).deterministic, keep=False
  )
  bench.main(values, View())


def _prepare(argv: Sequence[str]) -> None:
  if len(argv) < 2 or argv[1].startswith("-"):
    raise UserError("amtml prepare needs a data set's name first: cifar10, ...")
  values = parse([argv[0], *argv[2:]], folder="", manual_dir="")
  from amtml_jax.data import prepare

  prepare.prepare(argv[1], folder=values.folder, manual_dir=values.manual_dir)


def _list(argv: Sequence[str]) -> None:
  parse(argv)
  from amtml_jax import methods, plugins

  rows: dict[str, Any] = {
    "models": plugins.networks(),
    "adapters": plugins.names("adapters"),
    "terms": plugins.names("losses"),
    "data sources": plugins.names("data"),
    "methods": methods.METHODS,
    "configs": configs(),
    "experiments": experiments(),
  }
  for kind, names in rows.items():
    print(f"{kind:13} {' '.join(names)}")


COMMANDS = {
  "bench": _bench,
  "list": _list,
  "prepare": _prepare,
  "report": _report,
  "sweep": _sweep,
}


def _stopped(stop: Stop) -> int:
  """Says why, and gives the exit code; one process of several exits at once.

  Waiting for the others, as jax does at exit, would wait for processes that
  may wait for this one.
  """
  who, several = "", False
  if "jax" in sys.modules:  # it takes a second to import
    from amtml_jax import processes

    several = processes.several()
    who = "" if processes.first() else f"{processes.name()}: "
  if not (who and isinstance(stop, InterruptedRun)):  # all say the same
    line = " ".join(str(stop).splitlines())
    print(f"amtml: {who}{line}", file=sys.stderr, flush=True)
  if several and not who:
    time.sleep(5)  # its end ends the others: let them say why first
  # Waiting for threads of a save that failed may take minutes, too.
  if several or isinstance(stop, NotSavedError):
    os._exit(stop.exit_code)
  return stop.exit_code


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command and returns its exit code."""
  argv = list(sys.argv if argv is None else argv)
  command = argv[1] if len(argv) > 1 else "help"
  rest = [argv[0], *argv[2:]]
  if {"--help", "-h"} & set(rest):
    command = "help"
  try:
    with interrupt.told():
      if command in ("run", "teach", "distill", "evaluate"):
        _train(command, rest)
      elif command in COMMANDS:
        COMMANDS[command](rest)
      elif command in ("help", "--help", "-h"):
        print(USAGE, end="")
      else:
        raise UserError(f"there is no command {command!r}; see `amtml help`")
  except Stop as stop:
    return _stopped(stop)
  except (KeyboardInterrupt, Terminated) as stop:
    print("amtml: stopped at once; what was saved is whole", file=sys.stderr)
    sys.stderr.flush()
    # Tearing Python down under XLA's compiling threads ends in a crash.
    os._exit(getattr(stop, "exit_code", 130))
  return 0


if __name__ == "__main__":
  sys.exit(main())
