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

from amtml_jax import config, files
from amtml_jax.data.splits import Splits
from amtml_jax.ensemble import Ensemble
from amtml_jax.errors import UserError

CONFIG = "config.json"
SUMMARY = "summary.json"
# What may differ when a workdir is used again: none of it changes what a
# training ends with. Data and teachers are known by their fingerprints.
FREE = (
  "checkpoint_every",
  "data.folder",
  "devices",
  "ensemble",
  "evaluate_every",
  "keep",
  "parallel",
  "steps_per_dispatch",
)


def identity(run: config.Run, data: Splits) -> dict[str, Any]:
  """What makes a run this run: every value of it, and its data."""
  return {
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


def check_config(now: dict[str, Any], workdir: pathlib.Path) -> None:
  """Refuses a workdir of another run; more epochs extend one.

  A run that saved no state yet is no run: it may start with another config.
  """
  path = files.writable(workdir) / CONFIG
  started = any((workdir / "checkpoints").glob("[0-9]*"))
  if not (path.exists() and started):
    return
  before = files.read_json(path, "the run's config")
  for key, was, is_ in differences(before, now):
    longer = key == "epochs" and is_ > was
    if longer and now["adapter"]["schedule"] == "joint":
      continue
    raise UserError(
      f"--workdir={workdir} holds a run with {key}={was!r}, not {is_!r}; "
      "use another --workdir, or the config it was started with"
      + (" (two_stage cannot be extended)" if longer else "")
    )


def finished(
  run: config.Run,
  data: Splits,
  teachers: Ensemble | None,
  workdir: pathlib.Path,
) -> dict[str, Any] | None:
  """The summary of this very run, under these very teachers."""
  path = workdir / SUMMARY
  if not path.exists() or not (workdir / CONFIG).exists():
    return None
  summary = files.read_json(path, "the summary")
  saved = [[n, t["fingerprint"]] for n, t in summary["teachers"].items()]
  same = saved == (teachers.fingerprints if teachers else [])
  before = files.read_json(workdir / CONFIG, "the run's config")
  done = summary["run"]["epochs"] == run.epochs
  if same and done and not differences(before, identity(run, data)):
    return summary
  return None
