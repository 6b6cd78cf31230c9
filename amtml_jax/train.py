"""The loop. A teacher is a student with no teachers."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import time
from typing import Any

import jax
import numpy as np

from amtml_jax import metrics, parallel, state
from amtml_jax.checkpoint import Checkpoints
from amtml_jax.data import pipeline
from amtml_jax.errors import (
  DamagedError,
  DivergedError,
  InterruptedRun,
  UserError,
)
from amtml_jax.evaluate import STUDENT
from amtml_jax.interrupt import Interrupt
from amtml_jax.plan import Plan, Stage
from amtml_jax.progress import Line, View


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
  sums: dict[str, list[float]] = dataclasses.field(default_factory=dict)
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
    steps = self.saved.steps()
    for step in reversed(steps):
      try:
        at = Progress(**self.saved.meta(step))
        self._fits(at)
        like = self.plan.like(self.plan.stages[at.stage])
        restored = self.saved.restore(step, like)
      except DamagedError as error:
        self._view.say(f"{error}; using the one before")
        continue
      self.at, self.state = at, self.plan.replicas.place(restored)
      return
    if steps:
      raise DamagedError(
        f"every checkpoint in {self.saved.folder} is damaged; remove the "
        "folder to start again"
      )

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
    self._log = metrics.Log(self._workdir, self.at.step)
    self._line = line
    train, validation = self.plan.splits.train, self.plan.splits.validation
    self._data = self.plan.replicas.place((train.image, train.label))
    self._held_out = self.plan.evaluator.place(validation)
    self._since = time.monotonic()
    try:
      with Interrupt() as self._interrupt:
        for number in range(self.at.stage, len(self.plan.stages)):
          self._stage(number)
    finally:
      self.saved.wait()
      self._log.close()

  def _stage(self, number: int) -> None:
    stage, run = self.plan.stages[number], self.plan.run
    if number != self.at.stage:
      trained = state.trainable(self.state.params, stage.parts)
      fresh = self.plan.replicas.place(stage.optimizer.init(trained))
      self.state = self.state.replace(opt_state=fresh)
      self.at.stage = number
    limit = parallel.steps_per_dispatch(run.steps_per_dispatch, self.plan.epoch)
    update = self.plan.lift(stage, limit)
    while self.at.step < stage.last:
      before, epoch = self.at.step, self.at.step // self.plan.epoch + 1
      while not self._ends(epoch, stage):
        epoch += 1
      until = epoch * self.plan.epoch
      self._dispatch(update, limit, until)
      if self.at.step == until:
        self._evaluate()
      if self.at.step > before and (
        self._interrupt.asked or self._saves(self.at.step, stage)
      ):
        self._save()
      if self._interrupt.asked:
        self.saved.wait()
        raise InterruptedRun(
          f"stopped at step {self.at.step} of {self.plan.steps} and saved; "
          "the same command goes on from there"
        )

  def _ends(self, epoch: int, stage: Stage) -> bool:
    """Whether an epoch ends with an evaluation."""
    run, last = self.plan.run, epoch * self.plan.epoch == stage.last
    return (
      last
      or epoch % run.evaluate_every == 0
      or epoch % run.checkpoint_every == 0
    )

  def _saves(self, step: int, stage: Stage) -> bool:
    every = self.plan.run.checkpoint_every * self.plan.epoch
    return step % every == 0 or step == stage.last

  def _dispatch(self, update: Any, limit: int, until: int) -> None:
    """Steps to `until`; metrics are fetched while the next dispatch runs."""
    pending = None
    while self.at.step < until and not self._interrupt.asked:
      count = min(limit, until - self.at.step)
      rows, epochs = self._rows(count, limit)
      self.state, parts = update(
        self.state,
        self.plan.teachers,
        self._data,
        rows,
        epochs,
        np.int32(count),
      )
      if pending:
        self._take(*pending)
      pending = (self.at.step, count, parts)
      self.at.step += count
    if pending:
      self._take(*pending)

  def _rows(self, count: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows and epochs of the next steps, padded to a full dispatch."""
    run = self.plan.run
    rows = np.zeros((limit, run.batch_size), np.int32)
    epochs = np.zeros((limit,), np.int32)
    size = len(self.plan.splits.train.label)
    for i in range(count):
      rows[i], epochs[i] = pipeline.rows_of(
        self.at.step + i, seed=run.seed, size=size, batch=run.batch_size
      )
    return self.plan.replicas.shard(rows, axis=1), epochs

  def _take(self, first: int, count: int, parts: Any) -> None:
    """Adds up what a dispatch measured; stops where it is not a number."""
    parts = jax.device_get(parts)
    parts = {n: (v[:count], c[:count]) for n, (v, c) in parts.items()}
    bad = metrics.first_not_finite(parts)
    if bad:
      saved = self.saved.steps()
      raise DivergedError(
        f"{self._line.name}: {bad[1]} turned {bad[2]} at step "
        f"{first + bad[0] + 1}; the "
        + (f"checkpoint of step {saved[-1]} is" if saved else "run was not")
        + (" good" if saved else " saved yet")
        + "; a smaller learning_rate or a clip_norm may help, in "
        "config.optimizer or, for a teacher, in config.teacher.optimizer"
      )
    metrics.add(self.at.sums, parts)
    latest = {n: float(v[-1] / c[-1]) for n, (v, c) in parts.items()}
    done = first + count
    self._line.advance(
      done,
      self.plan.run.batch_size,
      f"{-(-done // self.plan.epoch)}/{self.plan.run.epochs}",
      latest["loss"],
      latest["accuracy"],
    )

  def _evaluate(self) -> None:
    result = self.plan.evaluate(self.state, self._held_out)
    own = result[STUDENT]
    if not math.isfinite(own["cross_entropy"]):
      raise DivergedError(
        f"the student predicts {own['cross_entropy']} after step "
        f"{self.at.step}; this state was not saved"
      )
    means = metrics.means(self.at.sums)
    self.at.validation, self.at.sums = result, {}
    self._clock()
    epoch = self.at.step // self.plan.epoch
    line = {
      "phase": self._line.name,
      "step": self.at.step,
      "epoch": epoch,
      **{f"train/{name}": value for name, value in means.items()},
      **metrics.flat(result, "validation/"),
      "seconds": self.at.seconds,
    }
    self._log.write(line)
    self._line.say(
      f"epoch {epoch}/{self.plan.run.epochs}  loss {means['loss']:.4f}  "
      f"accuracy {means['accuracy']:.1%}  validation {own['accuracy']:.2%}"
    )

  def _clock(self) -> None:
    now = time.monotonic()
    self.at.seconds += now - self._since
    self._since = now

  def _save(self) -> None:
    self._clock()
    # Between evaluations the state's own accuracy is not known: never best.
    known = not self.at.sums
    accuracy = self.at.validation[STUDENT]["accuracy"] if known else -1.0
    self.saved.save(
      self.at.step, self.state, dataclasses.asdict(self.at), accuracy
    )


def _named(fingerprints: list[list[str]]) -> str:
  return ", ".join(f"{n} {f[:8]}" for n, f in fingerprints) or "none"
