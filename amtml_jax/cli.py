"""The `amtml` command: flags in, exit code out; the work is elsewhere."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

from amtml_jax.errors import Stop, UserError

USAGE = """\
amtml COMMAND [flags]

  run       teach the teachers that are missing, distil, evaluate, report
  teach     train the teachers alone
  distill   train the student under teachers that are there
  evaluate  evaluate a finished run again
  prepare   build a TFDS data set without TensorFlow: amtml prepare cifar10
  list      every model, adapter, term, data source and config

run, teach, distill and evaluate take
  --config=FILE[:ARGUMENTS]   a config file, or the name of one in configs/
  --config.KEY=VALUE          any value of it
  --workdir=FOLDER            where everything is written

prepare takes
  --folder=FOLDER             where to put it (default: TFDS's own)
  --manual_dir=FOLDER         where its archives lie, instead of the network
"""


def configs() -> dict[str, pathlib.Path]:
  """The configs that come with the package, by name."""
  import amtml_jax.configs

  folder = pathlib.Path(amtml_jax.configs.__path__[0])
  return {p.stem: p for p in sorted(folder.glob("[!_]*.py"))}


def _joined(argv: Sequence[str]) -> list[str]:
  """`--config digits` -> `--config=digits`."""
  argv = list(argv)
  while "--config" in argv[:-1]:
    place = argv.index("--config")
    argv[place : place + 2] = [f"--config={argv[place + 1]}"]
  return argv


def _named_config(argument: str) -> str:
  """`--config=digits:x` -> `--config=/.../digits.py:x`."""
  flag, _, value = argument.partition("=")
  if flag not in ("--config", "-config") or not value:
    return argument
  name, colon, rest = value.partition(":")
  if name in configs():
    return f"--config={configs()[name]}{colon}{rest}"
  if not pathlib.Path(name).is_file():
    raise UserError(
      f"there is no config {name!r}: neither a file nor one of "
      f"{', '.join(configs())}"
    )
  return argument


def parse(argv: Sequence[str], **strings: str) -> flags.FlagValues:
  """Reads the flags of one command; `strings` are its own, with defaults.

  Raises:
    UserError: for what config_flags and absl show as a traceback.
  """
  argv = [argv[0], *map(_named_config, _joined(argv[1:]))]
  overrides = [a for a in argv if a.lstrip("-").startswith("config.")]
  # First the file alone: an unknown key is then looked up in what it holds.
  values = _read([a for a in argv if a not in overrides], strings)
  for override in overrides:
    if "workdir" in strings and values.config is not None:
      _refuse_unknown(override.lstrip("-").partition("=")[0], values.config)
  return _read(argv, strings)


def _read(argv: Sequence[str], strings: dict[str, str]) -> flags.FlagValues:
  values = flags.FlagValues()
  for name, default in strings.items():
    flags.DEFINE_string(name, default, "", flag_values=values)
  if "workdir" in strings:
    config_flags.DEFINE_config_file(
      "config", None, flag_values=values, sys_argv=list(argv)
    )
  try:
    rest = values(argv)
  except flags.Error as error:
    raise UserError(_last_line(error)) from None
  except Exception as error:  # config_flags runs the file, and raises anything
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


def _prepare_jax() -> None:
  """Compiled programs are kept between commands, where nobody says otherwise.

  JAX_COMPILATION_CACHE_DIR says where, JAX_ENABLE_COMPILATION_CACHE=0 that not.
  """
  import jax

  sys.unraisablehook = _quiet
  if not jax.config.jax_compilation_cache_dir:
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = pathlib.Path(home) / "amtml_jax"
    jax.config.update("jax_compilation_cache_dir", str(folder))


def _quiet(unraisable: Any) -> None:
  """Orbax's readers of a damaged checkpoint outlive their event loop."""
  if str(unraisable.exc_value) != "Event loop is closed":
    sys.__unraisablehook__(unraisable)


def _train(command: str, argv: Sequence[str]) -> None:
  values = parse(argv, workdir="")
  if values.config is None:
    raise UserError(f"amtml {command} needs --config, such as --config=digits")
  if not values.workdir:
    raise UserError(f"amtml {command} needs --workdir, a folder to write to")
  from amtml_jax import commands, report
  from amtml_jax.progress import View

  _prepare_jax()
  view = View()
  do = getattr(commands, command)
  result = do(values.config, pathlib.Path(values.workdir), view)
  if isinstance(result, dict):
    view.console.print(report.table(result))
    view.say(f"written: {pathlib.Path(values.workdir) / report.SUMMARY}")


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
  }
  for kind, names in rows.items():
    print(f"{kind:13} {' '.join(names)}")


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command and returns its exit code."""
  argv = list(sys.argv if argv is None else argv)
  command = argv[1] if len(argv) > 1 else "help"
  rest = [argv[0], *argv[2:]]
  if {"--help", "-h"} & set(rest):
    command = "help"
  try:
    if command in ("run", "teach", "distill", "evaluate"):
      _train(command, rest)
    elif command == "prepare":
      _prepare(rest)
    elif command == "list":
      _list(rest)
    elif command in ("help", "--help", "-h"):
      print(USAGE, end="")
    else:
      raise UserError(f"there is no command {command!r}; see `amtml help`")
  except Stop as stop:
    print(f"amtml: {stop}", file=sys.stderr)
    return stop.exit_code
  except KeyboardInterrupt:
    print("amtml: stopped at once; what was saved is whole", file=sys.stderr)
    sys.stderr.flush()
    # Tearing Python down under XLA's compiling threads ends in a crash.
    os._exit(130)
  return 0


if __name__ == "__main__":
  sys.exit(main())
