"""The measuring stick: times the pieces of a run, and says what they cost."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict
from rich.table import Table

from amtml_jax import config, files, measure, profile, report
from amtml_jax.checks import check
from amtml_jax.measure import Side
from amtml_jax.pieces import NAMES, Pieces
from amtml_jax.progress import View

Rivals = Callable[[Pieces, str], Sequence[Side]]
OUTPUT = "bench.json"
FLAGS: dict[str, str | bool] = dict(
  workdir="",
  output="",
  classes="10",
  image="32x32x3",
  rounds="5",
  only="",
  profile=False,
)


@dataclasses.dataclass(frozen=True)
class Options:
  """What the flags say.

  Attributes:
    classes: of the random data set.
    image: `(H, W, channels)`.
    rounds: turns of every side.
    only: names to measure; all if empty.
    output: the JSON file, None for none.
    traces: folder of the trace, None for none.
  """

  classes: int
  image: tuple[int, int, int]
  rounds: int
  only: tuple[str, ...]
  output: pathlib.Path | None
  traces: pathlib.Path | None


def options(values: flags.FlagValues) -> Options:
  """Checks the flags.

  Raises:
    UserError: what is wrong with one.
  """
  for name, least in (("classes", 2), ("rounds", 1)):
    text = getattr(values, name)
    check(
      text.isdecimal() and least <= int(text) < 10**6,
      f"--{name}={text} must be a whole number of at least {least}",
    )
  check(
    re.fullmatch(r"[1-9]\d{0,3}(x[1-9]\d{0,3}){2}", values.image) is not None,
    f"--image={values.image} must be HEIGHTxWIDTHxCHANNELS, such as 32x32x3",
  )
  only = tuple(filter(None, values.only.split(",")))
  for name in only:
    check(name in NAMES, f"--only={name} is none of {', '.join(NAMES)}")
  workdir = pathlib.Path(values.workdir) if values.workdir else None
  check(
    workdir is not None or not values.profile,
    "--profile needs --workdir, the folder of the trace",
  )
  output = workdir and files.writable(workdir) / OUTPUT
  return Options(
    classes=int(values.classes),
    image=tuple(map(int, values.image.split("x"))),
    rounds=int(values.rounds),
    only=only,
    output=pathlib.Path(values.output) if values.output else output,
    traces=workdir / "profile" if values.profile else None,
  )


def run(
  settings: ConfigDict,
  asked: Options,
  view: View,
  rivals: Rivals = lambda made, name: (),
) -> dict[str, Any]:
  """Measures, in turn with whoever does the same.

  Args:
    settings: the config.
    asked: what the flags say.
    view: is told what is measured now.
    rivals: gives the other sides of a name, each named by who it is.

  Returns:
    What bench.json holds.
  """
  run = config.resolve(settings)
  check(
    run.needs_teachers or not set(asked.only) - {"student", "step", "command"},
    f"--only={','.join(asked.only)} needs teachers, and config.method="
    f"{run.method} has none",
  )
  with _compiles_once():
    made = Pieces(
      settings, classes=asked.classes, shape=asked.image, rounds=asked.rounds
    )
    result = {
      "devices": made.plan.replicas.describe(run.batch_size),
      "device_kind": jax.devices()[0].device_kind,
      "cores": len(os.sched_getaffinity(0)),
      "classes": asked.classes,
      "image": asked.image,
      "versions": versions(),
      "config": config.as_dict(made.run),
      "ceilings": _ceilings(made.run.dtype),
      "measured": {},
    }
    step = None
    for name in asked.only or made.names:
      view.say(f"measuring {name}")
      if name == "command":
        step = step or made.side("step")
        bare = dataclasses.replace(step, seconds=[])
        result["command"] = _command(made.command(bare), bare)
        continue
      side = made.side(name)
      others = list(rivals(made, name))
      measure.alternate([side, *others], asked.rounds)
      result["measured"][name] = _line(made, side, others, result["ceilings"])
      step = side if name == "step" else step
    result["device_peak_mb"] = measure.device_peak()
    if asked.traces:
      with profile.asked(asked.traces, view.say):
        _trace(step or made.side("step"))
  return files.plain(result)


def versions(*more: str) -> dict[str, str]:
  """Of the packages that a figure depends on."""
  names = ("amtml-jax", *report.PACKAGES, *more)
  return {name: importlib.metadata.version(name) for name in names}


@contextlib.contextmanager
def _compiles_once() -> Iterator[None]:
  """A cache of its own: compiling is measured, and not done twice."""
  if jax.config.jax_compilation_cache_dir:
    yield
    return
  with tempfile.TemporaryDirectory() as folder:
    jax.config.update("jax_compilation_cache_dir", folder)
    yield
    jax.config.update("jax_compilation_cache_dir", None)


def _ceilings(dtype: str) -> dict[str, float]:
  cpu = jax.default_backend() == "cpu"
  return {} if cpu else measure.ceilings(dtype)


def _line(
  made: Pieces, side: Side, others: Sequence[Side], ceilings: dict[str, float]
) -> dict[str, Any]:
  """Everything about one name."""
  cpu = jax.default_backend() == "cpu"
  costs = made.compiled[side.name]
  return {
    "seconds": side.median,
    "turns": side.seconds,
    "images_per_second": made.run.batch_size / side.median,
    "host_mb": measure.peak_added(lambda: side.turn(1)) if cpu else None,
    **costs,
    "of_ceiling": {
      what: costs[what] / side.median / most
      for what, most in ceilings.items()
      if costs[what]
    },
    "others": {
      other.name: {
        "seconds": other.median,
        "turns": other.seconds,
        "ratio": measure.ratio(side, other),
      }
      for other in others
    },
  }


def _command(loop: Side, bare: Side) -> dict[str, Any]:
  if not loop.seconds:
    return {}
  return {
    "seconds": loop.median,
    "turns": loop.seconds,
    "bare_turns": bare.seconds,
    "over_step": measure.ratio(loop, bare),
  }


def _trace(side: Side) -> None:
  call = profile.watched("step", side.steps, side.call)
  for _ in range(profile.SKIP + profile.STEPS):
    side.wait(call())


def tables(result: dict[str, Any]) -> list[Table]:
  """What everything takes, and beside whom it was measured."""
  rows = result["measured"]
  title = f"{result['devices']}, {result['classes']} classes"
  shares = {"flops": "of matrix", "bytes": "of copy"}
  shares = {k: v for k, v in shares.items() if k in result["ceilings"]}
  own = _table(
    title,
    *("ms", "images/s", "temp MB", "host MB", "compile s"),
    *shares.values(),
  )
  for name, line in rows.items():
    own.add_row(
      name,
      _milliseconds(line["seconds"]),
      f"{line['images_per_second']:,.0f}",
      _megabytes(line["temp_mb"]),
      _megabytes(line["host_mb"]),
      f"{line['compile_seconds']:.1f}",
      *(
        f"{line['of_ceiling'][k]:.1%}" if k in line["of_ceiling"] else ""
        for k in shares
      ),
    )
  own.caption = _caption(result)
  others = list(dict.fromkeys(n for r in rows.values() for n in r["others"]))
  if not others:
    return [own]
  beside = _table("ms (ours / it)", "ours", *others)
  for name, line in rows.items():
    found = [line["others"].get(other) for other in others]
    beside.add_row(
      name,
      _milliseconds(line["seconds"]),
      *(
        f"{_milliseconds(r['seconds'])} ({r['ratio']:.2f})" if r else ""
        for r in found
      ),
    )
  return [own, beside]


def _table(title: str, *columns: str) -> Table:
  made = Table(title=title, caption_justify="left")
  made.add_column("", no_wrap=True)
  for column in columns:
    made.add_column(column, justify="right")
  return made


def _milliseconds(seconds: float) -> str:
  digits = 3 if seconds < 0.001 else 2 if seconds < 0.1 else 0
  return f"{1000 * seconds:,.{digits}f}"


def _megabytes(value: float | None) -> str:
  return "" if value is None else f"{value:,.1f}"


def _caption(result: dict[str, Any]) -> str | None:
  found = result.get("command")
  if not found:
    return None
  return (
    f"the command takes {_milliseconds(found['seconds'])} ms a step, "
    f"{found['over_step']:.3f} times the bare step"
  )


def main(
  values: flags.FlagValues, view: View, rivals: Rivals | None = None
) -> None:
  """Measures, shows and writes."""
  asked = options(values)
  result = run(values.config, asked, view, *([rivals] if rivals else []))
  for table in tables(result):
    view.console.print(table)
  if asked.output:
    files.write_json(asked.output, result)
    view.say(f"written: {asked.output}")
