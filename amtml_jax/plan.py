"""What a run is made of: its networks, objectives and optimizers by phase."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from amtml_jax import (
  config,
  feed,
  network,
  objective,
  optimizer,
  parallel,
  reachability,
  state,
  step,
  views,
)
from amtml_jax.checks import check
from amtml_jax.data import pipeline
from amtml_jax.data.splits import Splits
from amtml_jax.ensemble import Ensemble
from amtml_jax.errors import UserError
from amtml_jax.evaluate import Evaluator, Placed
from amtml_jax.state import TrainState
from amtml_jax.types import Batch, ModelOutput
from amtml_jax.views import Reading, Taught


def check_batch(
  run: config.Run, splits: Splits, key: str = "batch_size"
) -> parallel.Replicas:
  """The devices, if a batch divides over them and the data set fills one.

  Args:
    run: the checked config.
    splits: the data.
    key: of the config, for the sentence.
  """
  replicas = parallel.replicas(run.devices, run.parallel)
  replicas.rows(run.batch_size, key)
  size = len(splits.train.label)
  pipeline.rows_of(0, seed=0, size=size, batch=run.batch_size)
  if not len(splits.validation.label):
    raise UserError(
      "no image is left for validation: every class has a single one; add "
      "training images"
    )
  return replicas


@dataclasses.dataclass(frozen=True)
class Stage:
  """A phase of a run, in steps.

  Attributes:
    first: step.
    last: step, exclusive.
    objective: what is made small.
    optimizer: starts anew with the stage.
    parts: of the parameters that it trains.
  """

  first: int
  last: int
  objective: objective.Objective
  optimizer: optax.GradientTransformation
  parts: tuple[str, ...]


class Plan:
  """Everything about a run that does not change while it trains.

  Attributes:
    run: the checked config.
    splits: the data.
    ensemble: the frozen teachers, None without.
    replicas: the devices.
    epoch: its steps; what is left over is dropped.
    stages: one a phase.
    evaluator: for any split.
    taught: what the teachers say of every view, where the run keeps it.
  """

  def __init__(
    self, run: config.Run, splits: Splits, ensemble: Ensemble | None
  ):
    train = splits.train
    self.run, self.splits, self.ensemble = run, splits, ensemble
    self.replicas = check_batch(run, splits)
    self.epoch = len(train.label) // run.batch_size
    self.image_shape = train.image.shape[1:]
    student = network.build(
      run.student,
      len(train.classes),
      splits.mean,
      splits.std,
      dtype=run.dtype,
      axis=self.replicas.axis,
    )
    teachers, self._frozen, ranking = (), (), ()
    if ensemble is not None:
      ensemble.check(train)
      teachers, self._frozen = ensemble.folded(run.dtype)
      ranking = ensemble.ranking
    self.stages = tuple(
      Stage(
        first=phase.first * self.epoch,
        last=phase.last * self.epoch,
        objective=objective.build(
          run, phase.terms, student, teachers, ranking, axis=self.replicas.axis
        ),
        optimizer=optimizer.build(
          run.optimizer,
          run.adapter.learning_rate,
          steps=(phase.last - phase.first) * self.epoch,
          epoch=self.epoch,
        ),
        parts=phase.parts,
      )
      for phase in run.phases()
    )
    self.evaluator = Evaluator(
      self.stages[0].objective,
      self.replicas,
      run.batch_size,
      run.data.resident_mb,
      len(run.students),
      unrolled=self._unrolled(student),
    )
    self.taught: Taught | None = None

    check(
      self.steps < 2**31,
      f"config.epochs={run.epochs} are {self.steps} steps, more than 32 bits "
      "count; set fewer",
    )

  @functools.cached_property
  def teachers(self) -> tuple[network.Variables, ...]:
    """Their variables, on the devices when they are first asked for."""
    return self.replicas.place(self._frozen)

  def _unrolled(self, student: network.Network) -> bool:
    """Whether several students come one after the other in a program.

    On a CPU, where they convolve: vmapped, their kernels would make grouped
    convolutions, which XLA runs several times slower there. Peers hear each
    other, and cannot.
    """
    if jax.default_backend() != "cpu" or self.run.peers > 1:
      return False
    maps = student.shapes(self.image_shape)[0].features
    return any(f.shape[1] * f.shape[2] > 1 for f in maps)

  @property
  def steps(self) -> int:
    """Of the whole run."""
    return self.stages[-1].last

  def _one(self, stage: Stage, seed: int | jax.Array) -> TrainState:
    return state.init(
      self.stages[0].objective,
      stage.optimizer,
      stage.parts,
      seed=seed,
      image_shape=self.image_shape,
      ema=bool(self.run.optimizer.ema),
    )

  def init(self, stage: Stage) -> TrainState:
    """A fresh state that carries the stage's optimizer; of all students."""
    one = functools.partial(self._one, stage)
    if len(self.run.students) == 1:
      return one(self.run.seed)
    return jax.vmap(one)(jnp.asarray(self.run.students, jnp.int32))

  def _like_one(self, stage: Stage) -> TrainState:
    """The shapes of one student's state."""
    return jax.eval_shape(lambda: self._one(stage, self.run.seed))

  @property
  def parameters(self) -> int:
    """Of one student."""
    return network.count_parameters(self._like_one(self.stages[0]).student)

  def start(self) -> TrainState:
    """The state before the first step, on the devices."""
    init = functools.partial(self.init, self.stages[0])
    return self.replicas.place(parallel.once(init))

  def like(self, stage: Stage) -> TrainState:
    """The shapes of the stage's states."""
    return jax.eval_shape(functools.partial(self.init, stage))

  def evaluate(self, current: TrainState, data: Placed) -> dict[str, Any]:
    """Everyone's accuracy on a split that `evaluator.place` placed."""
    adapter = current.params["adapter"]
    return self.evaluator((current.student, adapter, self.teachers), data)

  def check(self) -> None:
    """Refuses a trainable leaf that nothing trains; needs shapes alone."""
    outputs, batch = self._shapes()
    for stage in self.stages:
      reachability.check(
        stage.objective,
        stage.optimizer,
        stage.parts,
        self._like_one(stage),
        outputs,
        batch,
      )

  def _shapes(self) -> tuple[tuple[ModelOutput, ...], Batch]:
    """Of the teachers' outputs for two rows, and of those rows."""
    rows = jax.ShapeDtypeStruct((2,), jnp.int32)
    image = jax.ShapeDtypeStruct((2, *self.image_shape), jnp.uint8)
    mask = jax.ShapeDtypeStruct((2,), jnp.float32)
    teach = self.stages[0].objective.teach
    frozen = jax.eval_shape(lambda tree: tree, self._frozen)
    return jax.eval_shape(teach, frozen, image), Batch(image, rows, rows, mask)

  @functools.cached_property
  def reading(self) -> Reading:
    """What of the teachers' outputs any stage's update looks at."""
    outputs, batch = self._shapes()

    def looks_at(stage: Stage) -> Reading:
      goal = reachability.alone(stage.objective)

      def update(said: Any, current: TrainState, batch: Batch) -> Any:
        return step.gradients(goal, stage.parts, current, said, batch)

      return Reading.of(update, outputs, self._like_one(stage), batch)

    return functools.reduce(operator.or_, map(looks_at, self.stages))

  def feed(self) -> feed.Feed:
    """The training batches, from any step on."""
    return feed.Feed(self.run, self.splits.train, self.replicas, self.taught)

  def lift(self, stage: Stage, steps: int) -> Callable[..., Any]:
    """The stage's compiled function of at most `steps` steps a dispatch."""
    update = functools.partial(
      step.train_step,
      stage.objective,
      stage.optimizer,
      stage.parts,
      self.run.optimizer.ema,
    )
    pad, flip = self.run.data.pad, self.run.data.flip

    count, taught = views.count(self.run.data), self.taught
    peers = self.run.peers > 1

    def draw_and_update(current, teachers, shared, fed, epoch):
      (images, kept), (own, said) = shared, fed
      view = epoch % count if count else epoch
      # Peers talk about the same pictures.
      rng = jax.random.key(self.run.seed) if peers else current.rng
      key = jax.random.fold_in(rng, 2)
      key = views.key(self.run.data) if count else key
      batch = feed.drawn(images, own, key=key, epoch=view, pad=pad, flip=flip)
      if taught:
        outputs = taught.outputs(kept, said, batch.example, view)
      else:
        outputs = stage.objective.teach(teachers, batch.image)
      return update(current, outputs, batch)

    every = state.students(
      draw_and_update,
      len(self.run.students),
      (0, None, None, None if peers else 1, None),
      axis_name=parallel.PEERS if peers else None,
      unrolled=self._unrolled(stage.objective.student),
    )
    return self.replicas.lift_steps(every, steps)
