"""One update: a pure function of (state, outputs, batch), with no mesh."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from amtml_jax import parallel, state
from amtml_jax.objective import Objective, Parts
from amtml_jax.state import TrainState
from amtml_jax.types import Batch, ModelOutput


def example_keys(
  rng: jax.Array, step: jax.Array, example: jax.Array
) -> jax.Array:
  """One key an example, from counters: the same however rows are spread."""
  key = jax.random.fold_in(jax.random.fold_in(rng, 1), step)
  return jax.vmap(jax.random.fold_in, (None, 0))(key, example)


def gradients(
  objective: Objective,
  parts: tuple[str, ...],
  current: TrainState,
  outputs: tuple[ModelOutput, ...],
  batch: Batch,
) -> tuple[dict[str, Any], Any, Parts]:
  """Gradient over the global batch, new batch statistics, summed parts."""
  keys = example_keys(current.rng, current.step, batch.example)

  def loss(trained: dict[str, Any]) -> tuple[jax.Array, Any]:
    params = {**current.params, **trained}
    return objective.loss(params, current.batch_stats, outputs, batch, keys)

  trained = state.trainable(current.params, parts)
  (total, aux), grads = jax.value_and_grad(loss, has_aux=True)(trained)
  # The local losses add up to the loss, so the local gradients add up too.
  summed = {**aux.parts, "loss": (total, jnp.zeros(()))}
  grads, summed = jax.tree.map(
    lambda x: parallel.all_sum(x, objective.axis), (grads, summed)
  )
  summed["loss"] = (summed["loss"][0], jnp.ones(()))
  summed["gradient_norm"] = (optax.tree.norm(grads), jnp.ones(()))
  return grads, aux.batch_stats, summed


def train_step(
  objective: Objective,
  optimizer: optax.GradientTransformation,
  parts: tuple[str, ...],
  ema: float,
  current: TrainState,
  outputs: tuple[ModelOutput, ...],
  batch: Batch,
) -> tuple[TrainState, Parts]:
  """One update of one replica; the first four arguments are static.

  Args:
    objective: what is made small.
    optimizer: of this phase.
    parts: of the parameters that this phase trains.
    ema: decay of the student's moving average, 0 for none.
    current: the state before.
    outputs: the frozen teachers', of these rows, in the manifest's order.
    batch: this replica's rows.

  Returns:
    The state after, and every part as (sum, count) over the global batch.
  """
  grads, batch_stats, summed = gradients(
    objective, parts, current, outputs, batch
  )
  trained = state.trainable(current.params, parts)
  updates, opt_state = optimizer.update(grads, current.opt_state, trained)
  params = {**current.params, **optax.apply_updates(trained, updates)}
  after = current.replace(
    step=current.step + 1,
    params=params,
    batch_stats=batch_stats,
    opt_state=opt_state,
  )
  if ema:
    live = {"params": params["student"], "batch_stats": batch_stats}
    average = optax.incremental_update(live, current.ema, 1.0 - ema)
    after = after.replace(ema=average)
  return after, summed
