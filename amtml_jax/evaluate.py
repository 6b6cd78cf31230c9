"""How good student, teachers and mixtures are on a split.

Probabilities are at temperature 1, and every figure is a sum over examples
divided by their number, so that padding, batches and devices leave no trace.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from amtml_jax.adapters import latent, uniform
from amtml_jax.data import pipeline
from amtml_jax.losses import kd
from amtml_jax.network import Variables
from amtml_jax.objective import Objective, entropy
from amtml_jax.parallel import Replicas
from amtml_jax.types import Batch, Dataset

STUDENT = "student"
UNIFORM = "ensemble.uniform"
ADAPTIVE = "ensemble.adaptive"


def batch_sums(
  objective: Objective,
  variables: tuple[Variables, Any, tuple[Variables, ...]],
  batch: Batch,
) -> dict[str, Any]:
  """Sums over a batch's real rows, by who predicts.

  Args:
    objective: names networks and adapter; its terms are not used.
    variables: the student's, the adapter's parameters, the teachers'.
    batch: plain images; rows of mask 0 count nothing.
  """
  student_variables, adapter_params, frozen = variables
  student = objective.student.predict(student_variables, batch.image)
  log_probs = {STUDENT: kd.soft_targets(student.logits, 1.0)}
  sums = {}
  if objective.teachers:
    teachers = objective.teach(frozen, batch.image)
    each = kd.soft_targets(jnp.stack([t.logits for t in teachers]), 1.0)
    for teacher, own in zip(objective.teachers, each, strict=True):
      log_probs[f"teachers.{teacher.name}"] = own
    even = uniform.Adapter(num_teachers=len(teachers))
    log_probs[UNIFORM] = latent.integrate(
      even.apply({}, student, teachers), each
    )
    # An adapter that needs labels has no weights outside training.
    if not getattr(objective.adapter, "needs_labels", False):
      log_weights = objective.adapter.apply(
        {"params": adapter_params}, student, teachers
      )
      log_probs[ADAPTIVE] = latent.integrate(log_weights, each)
      masked = batch.mask[:, None] * jnp.exp(log_weights)
      sums["weights"] = jnp.sum(masked, axis=0)
      sums["weights_entropy"] = jnp.sum(batch.mask * entropy(log_weights))
  for who, own in log_probs.items():
    hit = (jnp.argmax(own, axis=-1) == batch.label).astype(own.dtype)
    log_likelihood = jnp.take_along_axis(own, batch.label[:, None], axis=-1)
    sums[who] = {
      "accuracy": jnp.sum(batch.mask * hit),
      "cross_entropy": -jnp.sum(batch.mask * log_likelihood[:, 0]),
    }
  return {**sums, "count": jnp.sum(batch.mask)}


class Evaluator:
  """Compiled once for an objective; used for every split."""

  def __init__(self, objective: Objective, replicas: Replicas, batch_size: int):
    self._names = tuple(t.name for t in objective.teachers)
    self._replicas = replicas
    self._batch_size = batch_size

    def sums(variables, data, rows, mask):
      images, labels = data
      batch = Batch(images[rows], labels[rows], rows, mask)
      return batch_sums(objective, variables, batch)

    self._sums = replicas.lift_sums(sums)

  def place(self, split: Dataset) -> tuple[jax.Array, jax.Array]:
    """A split on every device, as uint8."""
    return self._replicas.place((split.image, split.label))

  def __call__(
    self,
    variables: tuple[Variables, Any, tuple[Variables, ...]],
    data: tuple[jax.Array, jax.Array],
  ) -> dict[str, Any]:
    """Accuracy and cross-entropy of everyone, and the mean weights.

    Args:
      variables: the student's, the adapter's parameters, the teachers'.
      data: from `place`.
    """
    size = data[1].shape[0]
    results = []
    for first in range(0, size, self._batch_size):
      rows = np.arange(first, min(first + self._batch_size, size))
      rows, mask = pipeline.padded(rows, self._batch_size)
      shard = self._replicas.shard
      results.append(self._sums(variables, data, shard(rows), shard(mask)))
    host = jax.device_get(results)
    total = jax.tree.map(lambda *x: np.sum(np.stack(x), axis=0), *host)
    count = total.pop("count")
    means = jax.tree.map(lambda x: np.asarray(x / count).tolist(), total)
    if "weights" in means:
      means["weights"] = dict(zip(self._names, means["weights"], strict=True))
    return means
