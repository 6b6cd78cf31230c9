"""What training changes, and what a checkpoint therefore holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from amtml_jax.objective import Objective


class TrainState(flax.struct.PyTreeNode):
  """Everything but the frozen teachers and the data.

  Attributes:
    step: global steps done, over all phases.
    params: `{student, adapter, terms}`.
    batch_stats: the student's.
    opt_state: of the phase's trainable parts.
    rng: the run's key. Never split: what is random folds in counters.
    ema: the moving average of the student's variables, None without.
  """

  step: jax.Array
  params: dict[str, Any]
  batch_stats: Any
  opt_state: optax.OptState
  rng: jax.Array
  ema: Any = None

  @property
  def student(self) -> dict[str, Any]:
    """The variables of the student that is evaluated and ships."""
    live = {"params": self.params["student"], "batch_stats": self.batch_stats}
    return live if self.ema is None else self.ema


def trainable(params: dict[str, Any], parts: tuple[str, ...]) -> dict[str, Any]:
  """The parts of the parameters that a phase trains."""
  return {part: params[part] for part in parts}


def students(
  function: Callable[..., Any],
  count: int,
  in_axes: tuple[int | None, ...] = (0,),
  *,
  axis_name: str | None = None,
  unrolled: bool = False,
) -> Any:
  """A function of one student's state, for `count` of them together.

  Several states are one tree whose leaves have a leading axis; the state of a
  single student has none, and the function stays as it is.

  Args:
    function: of one student.
    count: of students.
    in_axes: where each argument has its axis of students, None where they
      share it; results have it in front.
    axis_name: by which they may hear each other; None where none does.
    unrolled: one after the other in the program, instead of vmapped.
  """
  if count == 1:
    return function
  if not unrolled:
    return jax.vmap(function, in_axes, axis_name=axis_name)

  def own(arg: Any, axis: int | None, k: int) -> Any:
    if axis is None:
      return arg
    return jax.tree.map(lambda x: x[(slice(None),) * axis + (k,)], arg)

  def each(*args: Any) -> Any:
    pairs = list(zip(args, in_axes, strict=True))
    results = [
      function(*(own(arg, axis, k) for arg, axis in pairs))
      for k in range(count)
    ]
    return jax.tree.map(lambda *x: jnp.stack(x), *results)

  return each


def init(
  objective: Objective,
  optimizer: optax.GradientTransformation,
  parts: tuple[str, ...],
  *,
  seed: int | jax.Array,
  image_shape: tuple[int, ...],
  ema: bool,
) -> TrainState:
  """A fresh state; pure, so that `jax.eval_shape` gives its shapes."""
  rng = jax.random.key(seed)
  params, batch_stats = objective.init(jax.random.fold_in(rng, 0), image_shape)
  student = {"params": params["student"], "batch_stats": batch_stats}
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=batch_stats,
    opt_state=optimizer.init(trainable(params, parts)),
    rng=rng,
    ema=jax.tree.map(jnp.copy, student) if ema else None,
  )
