"""Which run a folder holds, and whether that is the one asked for.

workdir/
  config.json      what the student's run is
  teachers/NAME/   one run a teacher: config.json, checkpoints, metrics
  ensemble/        the teachers that are done
  checkpoints/     the student's; damaged ones move to damaged/
  metrics.jsonl    one line an evaluation
  events/          the same for TensorBoard
  summary.json     the result
"""

from __future__ import annotations

import pathlib
from typing import Any

from amtml_jax import checks, config, files
from amtml_jax.data.splits import Splits
from amtml_jax.ensemble import Ensemble
from amtml_jax.errors import UserError

CONFIG = "config.json"
SUMMARY = "summary.json"
# Of config.json; another number where a version cannot read the last one's.
FORMAT = 2
# What may differ when a workdir is used again: none of it changes what a
# training ends with. Data and teachers are known by their fingerprints.
FREE = (
  "checkpoint_every",
  "checkpoint_minutes",
  "checkpoint_steps",
  "data.folder",
  "data.outputs",
  "data.resident_mb",
  "deterministic",
  "devices",
  "ensemble",
  "evaluate_every",
  "full_disk",
  "keep",
  "parallel",
  "steps_per_dispatch",
)
# What is read of a summary: to know the run by, and for the table.
_SCORES = {"test_accuracy": float, "test_cross_entropy": float}
_LINE = {**_SCORES, "parameters": float, "compression?": float, ...: Any}
READ = {
  "student": {**_LINE, "name": str},
  "best": [{**_SCORES, "step": int, ...: Any}, None],
  "teachers": {...: {**_LINE, "fingerprint": str}},
  "ensemble": {...: _LINE},
  "run": {"epochs": int, "method": str, ...: Any},
  "digest": str,
  ...: Any,
}


def identity(run: config.Run, data: Splits) -> dict[str, Any]:
  """What makes a run this run: every value of it, and its data."""
  return {
    "format": FORMAT,
    **files.plain(config.as_dict(run)),
    "data_fingerprint": data.fingerprint,
  }


def differences(before: Any, now: Any, key: str = "") -> list[tuple]:
  """(key, before, now) for every leaf that matters and is not the same."""
  if isinstance(before, dict) and isinstance(now, dict):
    found = []
    for name in {**before, **now}:
      inner = f"{key}.{name}" if key else name
      found += differences(before.get(name), now.get(name), inner)
    return found
  return [] if before == now or key in FREE else [(key, before, now)]


def _checked(path: pathlib.Path, what: str, fix: str, kind: Any) -> Any:
  """The value of a JSON file, when it is of its kind (see checks.py)."""
  value = files.read_json(path, what, fix)
  wrong = checks.wrong(value, kind, "")
  checks.check(wrong is None, f"{what} {path} is damaged: {wrong}; {fix}")
  return value


def _read_config(path: pathlib.Path, now: dict[str, Any]) -> dict[str, Any]:
  """The config of the run that a workdir holds, of the shape of another's."""
  what, fix = "the run's config", "use another --workdir, or restore the file"
  before = _checked(path, what, fix, {...: Any})
  found = before.get("format")
  if type(found) is not int or found != FORMAT:
    has = f"format {checks.shown(found)}" if "format" in before else "no format"
    raise UserError(
      f"{path} has {has}, and this version reads format {FORMAT}; use another "
      "--workdir"
    )
  return _checked(path, what, fix, _kind(now))


def _kind(value: Any, key: str = "") -> Any:
  """The kind of JSON that a value of a config is an example of."""
  if isinstance(value, dict):
    # What a method, a term or an adapter has may differ, and is told as such.
    free = key.endswith(("terms", "settings"))
    names = () if free else value
    above = f"{key}." if key else ""
    known = {n: _kind(value[n], f"{above}{n}") for n in names}
    return {
      **{n: k for n, k in known.items() if f"{above}{n}" not in FREE},
      ...: Any,
    }
  if isinstance(value, bool | str):
    return type(value)
  if isinstance(value, int | float):
    return float
  return tuple if isinstance(value, list) else Any


def check_config(now: dict[str, Any], workdir: pathlib.Path) -> None:
  """Refuses a workdir of another run; more epochs extend one.

  A run that saved no state yet is no run: it may start with another config.
  """
  path = files.writable(workdir) / CONFIG
  saved = (workdir / "checkpoints").glob("*")
  started = any(p.name.isdecimal() for p in saved)
  if not started:
    return
  checks.check(
    path.exists(),
    f"--workdir={workdir} holds checkpoints and no {CONFIG} that says of what; "
    "restore it, or use another --workdir",
  )
  before = _read_config(path, now)
  for key, was, is_ in differences(before, now):
    longer = key == "epochs" and is_ > was
    has = f"{key}={checks.shown(was)}, not {checks.shown(is_)}"
    if longer and now["adapter"]["schedule"] == "joint":
      continue
    raise UserError(
      f"--workdir={workdir} holds a run with {has}; use another --workdir, or "
      "the config it was started with"
      + (" (two_stage cannot be extended)" if longer else "")
    )


def finished(
  run: config.Run,
  data: Splits,
  teachers: Ensemble | None,
  workdir: pathlib.Path,
) -> dict[str, Any] | None:
  """The summary of this very run, under these very teachers."""
  if teachers:
    teachers.check(data.train)
  path = workdir / SUMMARY
  if not path.exists() or not (workdir / CONFIG).exists():
    return None
  fix = "remove it, and `amtml evaluate` writes it again"
  summary = _checked(path, "the summary", fix, READ)
  rest = {k: v for k, v in summary.items() if k != "digest"}
  checks.check(
    summary["digest"] == files.digest(rest),
    f"the summary {path} is damaged: it is not what was written; {fix}",
  )
  saved = [[n, t["fingerprint"]] for n, t in summary["teachers"].items()]
  same = saved == (teachers.fingerprints if teachers else [])
  now = identity(run, data)
  before = _read_config(workdir / CONFIG, now)
  done = summary["run"]["epochs"] == run.epochs
  return summary if same and done and not differences(before, now) else None
