"""Kills a real run with -9 at random moments and checks that nothing is lost.

    python experiments/crash_campaign.py --kills=30 --workdir=runs/crashes

`amtml run` on the digits teaches two small teachers, keeps what they say of two
views, distils and evaluates. It is killed while it teaches, distils, saves,
evaluates and hears the teachers in turn, at a random moment each, and the same
command goes on, until it ends; then another run starts. Every run that ends
must be equal to one that nobody killed, to the bit: the student's whole state,
the teachers, and every figure of the summary. Prints the counts and writes them
to crashes.json; exit code 1 if anything was lost.
"""

import collections
import ctypes
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from absl import flags
from ml_collections import ConfigDict

from amtml_jax.defaults import defaults

PHASES = ("teach", "distill", "save", "evaluate", "hear")
STEPS = 4  # between saves
LATEST = 0.02  # seconds from the start of a phase to the kill
LIMIT = 600  # seconds after which a run hangs


def get_config() -> ConfigDict:
  """The run that is killed; this file is its config."""
  c = defaults()
  c.student, c.teachers = "mlp_small", ("a=mlp_small", "b=mlp_small")
  c.data.source, c.data.pad, c.data.flip = "digits", 1, False
  c.epochs, c.teacher.epochs = 3, 2
  c.terms.distance = 0.1
  c.optimizer.ema = 0.9
  c.checkpoint_steps = STEPS
  c.data.views = 2
  return c


def child(pipe: int, args: list[str]) -> int:
  """The command, which tells `pipe` what it is about to do."""
  from amtml_jax import checkpoint, cli, feed, kept, plan

  if sys.platform == "linux":  # whoever kills the campaign leaves no run
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

  def told(owner: type, name: str, what: Callable[..., str]) -> None:
    method = getattr(owner, name)

    def telling(self, *args, **keywords):
      os.write(pipe, f"{what(self, *args)}\n".encode())
      return method(self, *args, **keywords)

    setattr(owner, name, telling)

  def step(self, first, count):
    phase = "teach" if self._run.method == "alone" else "distill"
    return f"{phase} {self._run.student} {first}"

  told(feed.Feed, "next", step)
  told(checkpoint.Checkpoints, "save", lambda *_: "save")
  told(plan.Plan, "evaluate", lambda *_: "evaluate")
  told(kept.Writing, "append", lambda *_: "hear")
  return cli.main(["amtml", "run", f"--config={__file__}", *args])


def start(workdir: pathlib.Path, log: pathlib.Path) -> tuple:
  """The command in a process of its own, and what it tells."""
  read, write = os.pipe()
  with log.open("a") as out:
    process = subprocess.Popen(
      [sys.executable, __file__, f"--pipe={write}", f"--workdir={workdir}"],
      pass_fds=(write,),
      stdout=out,
      stderr=out,
    )
  os.close(write)
  return process, os.fdopen(read)


def run_until(
  workdir: pathlib.Path, phase: str, times: int, delay: float
) -> tuple[int | None, dict[str, list[int]]]:
  """Kills the run `delay` seconds after it enters a phase for so many times.

  Returns:
    Its exit code, None if it was killed in time; and by network, the first and
    the last step that it began.
  """
  log = workdir.with_suffix(".log")
  process, told = start(workdir, log)
  hung = threading.Event()

  def end() -> None:
    hung.set()
    process.kill()

  limit = threading.Timer(LIMIT, end)
  limit.daemon = True
  limit.start()
  steps: dict[str, list[int]] = {}
  with process, told:
    for line in told:
      now, *more = line.split()
      if more:
        network, step = more
        steps.setdefault(network, [int(step)] * 2)[1] = int(step)
      times -= now == phase
      if now == phase and times <= 0:
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        break
    code = process.wait()
  limit.cancel()
  if hung.is_set():
    raise SystemExit(f"a run did not end in {LIMIT} seconds; see {log}")
  return None if code == -signal.SIGKILL else code, steps


def result(workdir: pathlib.Path) -> dict[str, object]:
  """Everything that must come out the same."""
  from amtml_jax.checkpoint import Checkpoints

  summary = json.loads((workdir / "summary.json").read_text())
  saved = Checkpoints(workdir / "checkpoints", keep=2)
  state = saved.fingerprint(saved.steps()[-1])
  saved.close()
  for name in ("seconds", "config", "digest"):
    del summary[name]
  return {"state": state, **summary}


def campaign(kills: int, folder: pathlib.Path, seed: int = 0) -> dict[str, int]:
  """Counts of what became of `kills` kills."""
  chance, counts = random.Random(seed), collections.Counter()
  folder.mkdir(parents=True, exist_ok=True)
  whole = folder / "uninterrupted"
  if run_until(whole, "never", 1, 0.0)[0]:
    raise SystemExit(f"the run itself fails; see {whole}.log")
  expected, before = result(whole), None
  # After the last kill, the run that it hit goes on to its end.
  while counts["killed"] < kills or before is not None:
    phase = PHASES[counts["killed"] % len(PHASES)]
    if counts["killed"] == kills:
      phase = "never"
    workdir = folder / f"run-{counts['ended']}"
    code, steps = run_until(
      workdir, phase, chance.randint(1, 8), chance.uniform(0, LATEST)
    )
    for network in set(steps) & set(before or {}):
      again = before[network][1] + 1 - steps[network][0]
      counts["steps done again"] += again
      counts["most at once"] = max(counts["most at once"], again)
    if code is None:
      counts["killed"] += 1
      counts[f"killed in {phase}"] += 1
      before = steps
      continue
    before, same = None, code == 0 and result(workdir) == expected
    counts["ended"] += 1
    counts["bit-equal" if same else "lost"] += 1
  counts["lost"] += 0
  return dict(sorted(counts.items()))


def main() -> None:
  """Runs the campaign, or one run of it."""
  pipe = flags.DEFINE_integer("pipe", 0, "of the parent; for itself")
  workdir = flags.DEFINE_string("workdir", "runs/crashes", "where to write")
  kills = flags.DEFINE_integer("kills", 30, "how many")
  seed = flags.DEFINE_integer("seed", 0, "of the moments")
  flags.FLAGS(sys.argv)
  folder = pathlib.Path(workdir.value)
  if pipe.value:
    sys.exit(child(pipe.value, [f"--workdir={folder}"]))
  from amtml_jax import files

  counts = campaign(kills.value, folder, seed.value)
  for name, count in counts.items():
    print(f"{name:22} {count}")
  files.write_json(folder / "crashes.json", counts)
  sys.exit(1 if counts["lost"] else 0)


if __name__ == "__main__":
  main()
