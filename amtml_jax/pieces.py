"""What of a run is measured: its own functions, apart and together.

| | |
|---|---|
| kd, angle, hint, distance, attention | a term alone, forward and backward |
| teachers | their forward passes |
| student | the step, when it is handed the teachers' outputs |
| kept | the step, when it reads them from what is kept on the devices |
| step | the whole compiled step, teachers and all |
| command | the loop of `distill` beside the bare step, steady state |

Images, labels and weights are random; nothing is learnt.
"""

from __future__ import annotations

import functools
import math
import pathlib
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from amtml_jax import (
  config,
  ensemble,
  feed,
  macs,
  objective,
  synthetic,
  views,
)
from amtml_jax.checks import check
from amtml_jax.measure import Side, Turns
from amtml_jax.plan import Plan
from amtml_jax.progress import View
from amtml_jax.train import Training
from amtml_jax.types import DistillInputs
from amtml_jax.views import Taught

TERMS = ("kd", "angle", "hint", "distance", "attention")
NAMES = (*TERMS, "teachers", "student", "kept", "step", "command")
# Of a stretch of the loop between two evaluations.
DISPATCHES = 4
LARGEST_SET = 2**30  # bytes


class Pieces:
  """One config, ready to be timed.

  Attributes:
    settings: the config, with what is not measured out of the way.
    run: the same, checked.
    splits: random images.
    plan: of them, under random teachers.
    state: the first one, on the host.
    batch: uint8 images and labels, for whoever is compared.
    compiled: by name, what XLA says of the program.
  """

  def __init__(
    self,
    settings: ConfigDict,
    *,
    classes: int,
    shape: Sequence[int],
    rounds: int,
  ):
    settings = ConfigDict(settings.copy_and_resolve_references())
    settings.epochs, settings.seeds = rounds + 1, 1
    settings.evaluate_every, settings.checkpoint_every = 1, 10**6
    settings.checkpoint_minutes, settings.checkpoint_steps = 0.0, 0
    settings.adapter.schedule = "joint"  # the first phase of the other one
    # Labels are random: at a real rate the loss may end as no number.
    settings.optimizer.learning_rate = 1e-6
    self.settings, self.run = settings, config.resolve(settings)
    check(
      self.run.peers == 1,
      f"amtml bench times one student, and config.method={self.run.method} "
      "trains several; choose another method",
    )
    batch = self.run.batch_size
    limit = feed.steps_per_dispatch(self.run.steps_per_dispatch, 2**31)
    fits = LARGEST_SET // (batch * math.prod(shape))
    steps = max(DISPATCHES, min(DISPATCHES * limit, fits))
    self.splits = synthetic.images(shape, classes, steps * batch)
    self.plan = Plan(self.run, self.splits, self._teachers())
    self._stage = self.plan.stages[0]
    self._feed = self.plan.feed()
    start = self.plan.start()
    self.state = jax.device_get(start.replace(rng=None))
    self._fresh = lambda: jax.tree.map(lambda x: x.copy(), start)
    rows = np.arange(batch)
    train = self.splits.train
    self.batch = train.image[rows], train.label[rows]
    self.compiled: dict[str, dict[str, Any]] = {}

  def _teachers(self) -> ensemble.Ensemble | None:
    if not self.run.needs_teachers:
      return None
    runs = [config.teacher(self.settings, spec) for spec in self.run.teachers]
    data = self.splits
    shapes = ensemble.untrained(runs, data.train, data.mean, data.std)
    return ensemble.Ensemble(
      shapes.teachers, synthetic.weights(shapes.variables)
    )

  @property
  def names(self) -> tuple[str, ...]:
    """What there is to measure."""
    alone = ("student", "step", "command")
    return NAMES if self.plan.ensemble else alone

  @property
  def outputs(self) -> Any:
    """Random outputs of student and teachers, as they come in the step."""
    goal = self._stage.objective
    rng = np.random.default_rng(1)
    image = jax.ShapeDtypeStruct(self.batch[0].shape, jnp.uint8)
    student = {"params": self.state.params["student"]}
    student["batch_stats"] = self.state.batch_stats
    shapes = (
      jax.eval_shape(goal.student.predict, student, image),
      jax.eval_shape(goal.teach, self.plan.teachers, image),
    )
    return jax.tree.map(
      lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes
    )

  @property
  def term_inputs(self) -> Any:
    """The student's output, a target, and (teachers, labels, log-weights)."""
    student, teachers = self.outputs
    like = np.exp(teachers[0].logits)
    target = np.log(like / like.sum(1, keepdims=True))
    even = np.full((len(like), len(teachers)), -np.log(len(teachers)))
    rest = (teachers, self.batch[1], even.astype(target.dtype))
    return student, target, rest

  def side(self, name: str) -> Side:
    """What is timed under a name; compiled here."""
    if name in TERMS:
      return self._term(name)
    if name == "teachers":
      return self._teach()
    return self._step(name)

  def _side(self, name: str, lifted: Any, args: Any, call: Any = None) -> Side:
    """Compiles, and notes what XLA says."""
    lowered = lifted.lower(*args)
    start = time.perf_counter()
    program = lowered.compile()
    seconds = time.perf_counter() - start
    memory, cost = program.memory_analysis(), program.cost_analysis() or {}
    # Under jit a function sees all devices' rows.
    replicas = self.plan.replicas
    shared = replicas.count if replicas.lift == "jit" else 1
    self.compiled[name] = {
      "compile_seconds": seconds,
      "temp_mb": memory.temp_size_in_bytes / 2**20 if memory else None,
      "held_mb": _held(memory) / 2**20 if memory else None,
      # Of products and convolutions, a device's, as macs.py counts them.
      "flops": 2 * macs.of_function(lifted, *args) / shared,
      # As XLA counts them: the body of a loop once.
      "bytes": cost.get("bytes accessed"),
    }
    # A CPU has no dispatch to hide, and several fake devices of one may wait
    # for each other for ever where calls overlap.
    overlaps = jax.default_backend() != "cpu"
    call = call or functools.partial(lifted, *args)
    return Side(name, call, overlaps=overlaps)

  def _teach(self) -> Side:
    goal = self._stage.objective

    def sums(variables, _, fed):
      taught = goal.teach(variables, fed)
      # What a hint and KD look at; no more is computed in the step either.
      return [(jnp.max(t.logits), jnp.max(t.last)) for t in taught]

    lifted = self.plan.replicas.lift_sums(sums)
    fed = self.plan.replicas.put(self.batch[0])
    return self._side("teachers", lifted, (self.plan.teachers, (), fed))

  def taught(self, *, resident: bool) -> Taught:
    """Random outputs of one view, with what is kept of them."""
    reading, size = self.plan.reading, len(self.splits.train.label)
    rng = np.random.default_rng(2)
    arrays = []
    for leaf in reading.take(tuple(map(views.compact, self.outputs[1]))):
      rows = rng.integers(0, len(leaf), size)
      arrays.append((np.asarray(leaf)[rows],))
    return Taught(reading, tuple(arrays), self.plan.replicas, resident)

  def _step(self, name: str) -> Side:
    replicas, teachers = self.plan.replicas, self.plan.teachers
    if name != "step":
      self.plan.taught = self.taught(resident=name == "kept")
      teachers = ()
    batches = self._feed
    limit = 1 if name == "student" else batches.limit
    if name == "kept":
      batches = self.plan.feed()
    lifted = self.plan.lift(self._stage, limit)
    fed, epochs = batches.next(0, batches.limit)
    if name == "student":
      # On the devices before the clock starts.
      batch = [
        leaf[: self.run.batch_size] for (leaf,) in self.plan.taught.arrays
      ]
      said = tuple(replicas.put(leaf[None], axis=1) for leaf in batch)
      fed, epochs = (jax.tree.map(lambda x: x[:1], fed[0]), said), epochs[:1]
    self.plan.taught = None
    asks = replicas.each(np.zeros(2, np.int32))
    rest = (teachers, batches.shared, fed, epochs, np.int32(limit), asks)
    current = self._fresh()

    def call() -> Any:
      nonlocal current
      current, parts, _ = lifted(current, *rest)
      return parts

    side = self._side(name, lifted, (current, *rest), call)
    side.steps = limit
    return side

  def _term(self, name: str) -> Side:
    replicas, goal = self.plan.replicas, self._stage.objective
    every = ConfigDict(self.settings.copy_and_resolve_references())
    every.terms.update(dict.fromkeys(TERMS, 1.0))
    chosen = tuple(t for t in config.resolve(every).terms if t.label == name)
    ranking = self.plan.ensemble.ranking
    ((_, _, term),) = objective.build(
      self.run, chosen, goal.student, goal.teachers, ranking
    ).terms

    def inputs(student: Any, target: Any, rest: Any, axis: Any) -> Any:
      teachers, labels, log_weights = rest
      return DistillInputs(
        student=student,
        labels=labels,
        teachers=teachers,
        log_weights=log_weights,
        target_log_probs=target,
        temperature=goal.temperature,
        axis=axis,
      )

    fed = self.term_inputs
    variables = term.init(jax.random.key(0), inputs(*fed, None))
    params = replicas.place(jax.device_get(variables.get("params", {})))

    def sums(params, _, fed):
      student, target, rest = fed

      def loss(params, student, target):
        seen = inputs(student, target, rest, replicas.axis)
        value, count = term.apply({"params": params}, seen)
        return value / count

      value, gradients = jax.value_and_grad(loss, (0, 1, 2))(
        params, student, target
      )
      # A number each: what comes back must not cost more than the term.
      return value, jax.tree.map(jnp.max, gradients)

    fed = jax.tree.map(replicas.put, fed)
    return self._side(name, replicas.lift_sums(sums), (params, (), fed))

  def command(self, bare: Side) -> Side:
    """Stretches of a real training's loop, and of the bare step, in turn.

    Args:
      bare: the side `step`; gets its seconds here.
    """
    loop = Side("command", bare.call)
    with tempfile.TemporaryDirectory() as folder:
      view = View(Console(quiet=True))
      training = Training(self.plan, pathlib.Path(folder), view)
      training.run(Turns(loop, bare, self.plan.epoch))
    return loop


def _held(memory: Any) -> int:
  """Bytes that a program holds while it runs, as XLA plans them.

  What it is given, gives and needs between; what it is given to write its
  results into counts once.
  """
  given = memory.argument_size_in_bytes + memory.output_size_in_bytes
  return given - memory.alias_size_in_bytes + memory.temp_size_in_bytes
