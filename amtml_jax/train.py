"""The loop. A teacher is a student with no teachers."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from amtml_jax import metrics, processes, profile, state
from amtml_jax.agenda import Agenda
from amtml_jax.checkpoint import Checkpoints
from amtml_jax.errors import (
  DamagedError,
  DivergedError,
  InterruptedRun,
  LostProcessError,
  NotSavedError,
  Terminated,
  UserError,
)
from amtml_jax.evaluate import SEEDS, STUDENT
from amtml_jax.interrupt import Interrupt
from amtml_jax.plan import Plan
from amtml_jax.progress import Line, View
from amtml_jax.trees import to_host


@dataclasses.dataclass
class Progress:
  """Where a run stands; saved beside every state.

  Attributes:
    step: steps done.
    stage: whose optimizer the state carries.
    seconds: of training, over all starts.
    teachers: (name, fingerprint) in their order, which gives t its meaning.
    sums: (sum, count) of every part since the last evaluation.
    validation: the last evaluation.
  """

  step: int = 0
  stage: int = 0
  seconds: float = 0.0
  teachers: list[list[str]] = dataclasses.field(default_factory=list)
  sums: metrics.Sums = dataclasses.field(default_factory=dict)
  validation: dict[str, Any] = dataclasses.field(default_factory=dict)


class Training:
  """One run from where its workdir stands to its end.

  Attributes:
    plan: what does not change.
    saved: its checkpoints.
    state: the latest, on the devices.
    at: where it stands.
  """

  def __init__(self, plan: Plan, workdir: pathlib.Path, view: View):
    self.plan, self._workdir, self._view = plan, workdir, view
    self.saved = Checkpoints(workdir / "checkpoints", plan.run.keep)
    self.at = Progress(
      teachers=plan.ensemble.fingerprints if plan.ensemble else []
    )
    self.state = None
    self._restore()

  def _restore(self) -> None:
    for step in self.saved.damaged:
      self._view.say(
        f"the checkpoint of step {step} in {self.saved.folder} is damaged, and "
        "was moved aside"
      )
    damaged = []
    for step in reversed(self.saved.steps()):
      damage = None
      try:
        at = Progress(**self.saved.meta(step))
        self._fits(at)
        like = self.plan.like(self.plan.stages[at.stage])
        restored = self.saved.restore(step, like)
      except DamagedError as error:
        damage = error
      if processes.told(damage is not None):
        self._view.say(f"{damage}; using the one before")
        damaged.append(step)
        continue
      if damage:
        raise damage
      self.saved.set_aside(damaged)
      self.at, self.state = at, self.plan.replicas.place(restored)
      return
    if damaged:
      raise self.saved.all_damaged()

  def _fits(self, at: Progress) -> None:
    """Refuses to go on with a state of other teachers or a longer run."""
    stages = self.plan.stages
    if at.stage >= len(stages) or not (
      stages[at.stage].first <= at.step <= stages[at.stage].last
    ):
      raise UserError(
        f"{self._workdir} stands at step {at.step}, which is in another phase "
        "of this run; set config.epochs to what it was, or use another "
        "--workdir"
      )
    if at.teachers != self.at.teachers:
      raise UserError(
        f"{self._workdir} was trained by other teachers "
        f"({_named(at.teachers)}) than now ({_named(self.at.teachers)}); use "
        "another --workdir"
      )

  @property
  def finished(self) -> bool:
    """Whether nothing is left to train."""
    return self.at.step >= self.plan.steps

  def run(self, line: Line) -> None:
    """Trains to the end, or until it is asked to stop."""
    if self.state is None:
      self.state = self.plan.start()
    self._line, self._asked = line, np.zeros(2, np.int32)
    self._log = metrics.Log(self._workdir, self.at.step)
    self._feed = self.plan.feed()
    self._held_out = self.plan.evaluator.place(self.plan.splits.validation)
    self._since = self._saved_at = time.monotonic()
    self._saved_step = self.at.step
    try:
      with Interrupt() as self._interrupt:
        for number in range(self.at.stage, len(self.plan.stages)):
          self._stage(number)
        self._written(self.saved.wait)
    finally:
      self._feed.close()
      self._log.close()
      if not isinstance(sys.exception(), KeyboardInterrupt | Terminated):
        # What stops the run goes first.
        with contextlib.suppress(NotSavedError, LostProcessError):
          self.saved.wait()

  def _stage(self, number: int) -> None:
    stage = self.plan.stages[number]
    if number != self.at.stage:
      trained = state.trainable(self.state.params, stage.parts)
      count = len(self.plan.run.students)
      init = state.students(stage.optimizer.init, count)
      fresh = init(to_host(trained))
      self.state = self.state.replace(opt_state=self.plan.replicas.place(fresh))
      self.at.stage = number
    limit, name = self._feed.limit, self._line.name
    update = profile.watched(name, limit, self.plan.lift(stage, limit))
    agenda = Agenda(self.plan.run, self.plan.epoch, stage.last)
    while self.at.step < stage.last:
      before, until = self.at.step, agenda.next(self.at.step)
      self._dispatch(update, limit, until)
      if self.at.step == until and agenda.evaluates(until):
        self._evaluate()
      stop, save = self._asks()
      due = save or (agenda.saves(self.at.step) and self.at.step > before)
      if due or (stop and self.at.step > self._saved_step):
        self._save(must=stop or self.at.step == self.plan.steps)
      if stop:
        self._written(self.saved.wait, must=True)
        saved = " and saved" if self.at.step else ""
        raise InterruptedRun(
          f"stopped at step {self.at.step} of {self.plan.steps}{saved}; the "
          "same command goes on from there"
        )

  def _asks(self) -> np.ndarray:
    """Whether to (stop, save) now; the same in every process.

    What the processes ask for travels with the steps, so that all hear it at
    the same one. One process need not wait for its own answer.
    """
    return self._asked if processes.several() else self._own_asks()

  def _own_asks(self) -> np.ndarray:
    minutes = (time.monotonic() - self._saved_at) / 60
    due = 0 < self.plan.run.checkpoint_minutes <= minutes
    clock = due and self.at.step > self._saved_step and processes.first()
    return np.array([self._interrupt.asked, clock], np.int32)

  def _dispatch(self, update: Any, limit: int, until: int) -> None:
    """Steps to `until`; metrics are fetched while the next dispatch runs."""
    pending = None
    while self.at.step < until and not self._asks().any():
      count = min(limit, until - self.at.step)
      fed, epochs = self._feed.next(self.at.step, count)
      self.state, parts, asked = update(
        self.state,
        () if self.plan.taught else self.plan.teachers,
        self._feed.shared,
        fed,
        epochs,
        np.int32(count),
        self.plan.replicas.each(self._own_asks()),
      )
      if pending:
        self._take(*pending)
      pending = (self.at.step, count, parts, asked)
      self.at.step += count
    if pending:
      self._take(*pending)

  def _take(self, first: int, count: int, parts: Any, asked: Any) -> None:
    """Adds up what a dispatch measured; stops where it is not a number."""
    parts, asked = jax.device_get((parts, asked))
    self._asked = self._asked | (asked > 0)
    parts = {n: (v[:count], c[:count]) for n, (v, c) in parts.items()}
    bad = metrics.first_not_finite(parts)
    if bad:
      seeds = self.plan.run.students
      who = f" of seed {seeds[bad[3]]}" if len(seeds) > 1 else ""
      raise DivergedError(
        f"{self._line.name}: {bad[1]}{who} turned {bad[2]} at step "
        f"{first + bad[0] + 1}; {self.saved.last()}; a smaller learning_rate "
        "or a clip_norm may help, in config.optimizer or, for a teacher, in "
        "config.teacher.optimizer"
      )
    self._written(self.saved.check)
    metrics.add(self.at.sums, parts)
    latest = {n: float(np.mean(v[-1] / c[-1])) for n, (v, c) in parts.items()}
    done = first + count
    self._line.advance(
      done,
      self.plan.run.batch_size * len(self.plan.run.students),
      f"epoch {-(-done // self.plan.epoch)}/{self.plan.run.epochs}",
      f"loss {latest['loss']:.4f}  accuracy {latest['accuracy']:.1%}",
    )

  def _evaluate(self) -> None:
    result = self.plan.evaluate(self.state, self._held_out)
    own = result[STUDENT]
    if not math.isfinite(own["cross_entropy"]):
      raise DivergedError(
        f"the student predicts {own['cross_entropy']} after step "
        f"{self.at.step}; this state was not saved"
      )
    means, students = metrics.means(self.at.sums), self.plan.run.students
    every = {}
    if len(students) > 1:
      each = metrics.of_each(self.at.sums, len(students))
      every = {f"train/{SEEDS}": each}
    self.at.validation, self.at.sums = result, {}
    self._clock()
    epoch = self.at.step // self.plan.epoch
    line = {
      "phase": self._line.name,
      "step": self.at.step,
      "epoch": epoch,
      **{f"train/{name}": value for name, value in means.items()},
      **every,
      **metrics.flat(result, "validation/"),
      "seconds": self.at.seconds,
    }
    self._written(functools.partial(self._log.write, line))
    self._line.say(
      f"epoch {epoch}/{self.plan.run.epochs}  loss {means['loss']:.4f}  "
      f"accuracy {means['accuracy']:.1%}  validation {own['accuracy']:.2%}"
    )

  def _clock(self) -> None:
    now = time.monotonic()
    self.at.seconds += now - self._since
    self._since = now

  def _save(self, *, must: bool) -> None:
    """Saves; where it `must`, at once, and then a full disk stops the run."""
    self._clock()
    self._saved_at, self._saved_step = time.monotonic(), self.at.step
    self._asked = np.zeros(2, np.int32)
    # Between evaluations the state's own accuracy is not known: never best.
    known = not self.at.sums
    accuracy = self.at.validation[STUDENT]["accuracy"] if known else -1.0

    def save() -> None:
      self.saved.save(
        self.at.step, self.state, dataclasses.asdict(self.at), accuracy
      )
      if must:
        self.saved.wait()

    self._written(self.saved.wait)
    self._written(save, must=must)

  def _written(self, do: Callable[[], None], *, must: bool = False) -> None:
    """Does what writes; a full disk stops the run, or by config does not.

    One process of several cannot go on alone: the others wait for its save.
    """
    try:
      do()
    except NotSavedError as error:
      stop = self.plan.run.full_disk == "stop" or processes.several()
      if must or stop:
        raise
      self._view.say(f"{error}; going on, as config.full_disk says")


def _named(fingerprints: list[list[str]]) -> str:
  return ", ".join(f"{n} {f[:8]}" for n, f in fingerprints) or "none"
