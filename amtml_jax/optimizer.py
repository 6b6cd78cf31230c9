"""Learning-rate schedules, and which parameters get which update.

The trainable tree is `{student, adapter, terms}` (SPEC: section 4):

| group | update | weight decay |
|---|---|---|
| student | SGD, scheduled | kernels only, or all with `decay_all` |
| terms (regressors) | SGD, scheduled | kernels only |
| adapter | SGD, its own constant rate | none |
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import optax

from amtml_jax import config


def schedule(spec: config.Optimizer, steps: int, epoch: int) -> optax.Schedule:
  """The learning rate by step of a phase.

  Args:
    spec: what the config says.
    steps: of the phase.
    epoch: steps of one epoch, for the warm-up.
  """
  rate = spec.learning_rate
  warmup = min(spec.warmup_epochs * epoch, steps)
  if spec.schedule == "step":
    bounds = {
      round(m * steps) - warmup: spec.decay
      for m in spec.milestones
      if round(m * steps) > warmup
    }
    later = optax.piecewise_constant_schedule(rate, bounds)
  elif spec.schedule == "cosine":
    later = optax.cosine_decay_schedule(rate, max(steps - warmup, 1))
  else:
    later = optax.constant_schedule(rate)
  if not warmup:
    return later
  return optax.join_schedules(
    [optax.linear_schedule(0.0, rate, warmup), later], [warmup]
  )


def decays(params: Any, *, whole_student: bool = False) -> Any:
  """True for the leaves that weight decay pulls: kernels, by their name.

  Args:
    params: with the parts on top.
    whole_student: the student's batch norms and biases too, as in the authors'
      notebooks.
  """

  def pulls(path: Any, _: Any) -> bool:
    part, leaf = (getattr(path[i], "key", None) for i in (0, -1))
    return leaf == "kernel" or (whole_student and part == "student")

  return jax.tree_util.tree_map_with_path(pulls, params)


def groups(params: dict[str, Any]) -> dict[str, Any]:
  """The update that each leaf gets."""
  return {
    part: jax.tree.map(
      lambda _, part=part: "adapter" if part == "adapter" else "network", tree
    )
    for part, tree in params.items()
  }


def build(
  spec: config.Optimizer,
  adapter_rate: float,
  *,
  steps: int,
  epoch: int,
) -> optax.GradientTransformation:
  """The update of everything trainable in one phase."""
  mask = functools.partial(decays, whole_student=spec.decay_all)
  network = optax.chain(
    optax.add_decayed_weights(spec.weight_decay, mask=mask),
    optax.sgd(
      schedule(spec, steps, epoch), spec.momentum, nesterov=spec.nesterov
    ),
  )
  adapter = optax.sgd(adapter_rate, spec.momentum, nesterov=spec.nesterov)
  parts = optax.partition({"network": network, "adapter": adapter}, groups)
  if not spec.clip_norm:
    return parts
  return optax.chain(optax.clip_by_global_norm(spec.clip_norm), parts)
