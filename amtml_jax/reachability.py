"""The start-up check: whatever is trainable is trained.

It reads the graph of the gradient and of the update, not their values: with a
single teacher v and θ are reached, although their gradient is exactly 0.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from amtml_jax import state, step
from amtml_jax.errors import UserError
from amtml_jax.objective import Objective


def constant_leaves(function: Callable[..., Any], *args: Any) -> list[str]:
  """The paths of `function`'s results that no argument can change.

  A gradient that autodiff never reached is a constant 0 in the graph.
  """
  closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
  reached = set(closed.jaxpr.invars)
  for equation in closed.jaxpr.eqns:
    # Literals are constants in the graph: unhashable, and they reach nothing.
    if any(v in reached for v in equation.invars if not hasattr(v, "val")):
      reached.update(equation.outvars)
  leaves = jax.tree_util.tree_leaves_with_path(shape)
  return [
    jax.tree_util.keystr(path, simple=True, separator="/")
    for (path, _), v in zip(leaves, closed.jaxpr.outvars, strict=True)
    if hasattr(v, "val") or v not in reached
  ]


def alone(objective: Objective) -> Objective:
  """One replica's objective: the axis adds sums and gathers, no other path."""
  model = objective.student.model.clone(axis=None)
  student = dataclasses.replace(objective.student, model=model)
  return dataclasses.replace(objective, student=student, axis=None, hears=False)


def check(
  objective: Objective,
  optimizer: optax.GradientTransformation,
  parts: tuple[str, ...],
  current: Any,
  teachers: Any,
  batch: Any,
) -> None:
  """Refuses a leaf that no loss reaches, or that the optimizer leaves alone.

  Args:
    objective: of a phase.
    optimizer: of the phase.
    parts: of the parameters that the phase trains.
    current: a state's shapes, as the other two from `jax.eval_shape`.
    teachers: their outputs' shapes.
    batch: a batch's shapes.
  """
  gradients = functools.partial(step.gradients, alone(objective), parts)
  lost = constant_leaves(lambda *a: gradients(*a)[0], current, teachers, batch)
  if lost:
    raise UserError(
      f"no term of the loss reaches {', '.join(lost[:3])}; give config.terms a "
      "term that trains it, or choose another config.adapter.name"
    )
  trained = state.trainable(current.params, parts)

  def update(grads: Any) -> Any:
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), trained)
    return optimizer.update(grads, optimizer.init(zeros), zeros)[0]

  lost = constant_leaves(update, trained)
  if lost:
    raise UserError(f"the optimizer does not move {', '.join(lost[:3])}")
