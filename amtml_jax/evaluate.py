"""How good student, teachers and mixtures are on a split.

Probabilities are at temperature 1, and every figure is a sum over examples
divided by their number, so that padding, batches and devices leave no trace.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from amtml_jax import feed, profile, state
from amtml_jax.adapters import latent, uniform
from amtml_jax.losses import kd
from amtml_jax.network import Variables
from amtml_jax.objective import Objective, entropy
from amtml_jax.parallel import Replicas
from amtml_jax.types import Batch, Dataset, ModelOutput
from amtml_jax.views import Reading

STUDENT = "student"
SEEDS = "seeds"
UNIFORM = "ensemble.uniform"
ADAPTIVE = "ensemble.adaptive"
BINS = 15  # of confidence, equally wide, for the calibration error


def batch_sums(
  objective: Objective,
  variables: tuple[Variables, Any],
  batch: Batch,
  teachers: tuple[ModelOutput, ...],
) -> dict[str, Any]:
  """Sums over a batch's real rows, by who predicts.

  Args:
    objective: names networks and adapter; its terms are not used.
    variables: the student's, the adapter's parameters.
    batch: plain images; rows of mask 0 count nothing.
    teachers: what they say of them.
  """
  student_variables, adapter_params = variables
  student = objective.student.predict(student_variables, batch.image)
  log_probs = {STUDENT: kd.soft_targets(student.logits, 1.0)}
  sums = {}
  if objective.teachers:
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
  chosen = {who: jnp.argmax(own, axis=-1) for who, own in log_probs.items()}
  for who, own in log_probs.items():
    hit = (chosen[who] == batch.label).astype(own.dtype)
    log_likelihood = jnp.take_along_axis(own, batch.label[:, None], axis=-1)
    sums[who] = {
      "accuracy": jnp.sum(batch.mask * hit),
      "cross_entropy": -jnp.sum(batch.mask * log_likelihood[:, 0]),
      "gaps": gaps(jnp.exp(jnp.max(own, axis=-1)), hit, batch.mask),
    }
  if objective.teachers:
    same = chosen[STUDENT] == chosen[UNIFORM]
    sums[STUDENT]["agreement"] = jnp.sum(batch.mask * same)
    names = [f"teachers.{t.name}" for t in objective.teachers]
    right = jnp.stack([chosen[n] == batch.label for n in names], axis=1)
    sums["some_teacher_right"] = jnp.sum(batch.mask * jnp.any(right, axis=1))
    if ADAPTIVE in chosen:
      heard = jnp.sum(jnp.exp(log_weights) * right, axis=1)
      sums["weight_on_right"] = jnp.sum(batch.mask * heard)
  return {**sums, "count": jnp.sum(batch.mask)}


def gaps(confidence: jax.Array, hit: jax.Array, mask: jax.Array) -> jax.Array:
  """Σ (hit - confidence) over the rows of every bin of confidence.

  The expected calibration error (Guo et al. 2017) is Σ_b n_b/N |accuracy_b -
  confidence_b| over bins ((b-1)/15, b/15]: n_b cancels, so that it is
  Σ_b |gap_b| / N, and gaps add up over batches and devices.

  Args:
    confidence: `(N,)`, the largest probability.
    hit: `(N,)`, 1 where the prediction is right.
    mask: `(N,)`, 0 where a row counts nothing.

  Returns:
    `(BINS,)`.
  """
  place = jnp.clip(jnp.ceil(confidence * BINS) - 1, 0, BINS - 1)
  inside = place[:, None] == jnp.arange(BINS, dtype=place.dtype)[None]
  # No scatter: it adds in any order on a GPU.
  return jnp.sum(inside * (mask * (hit - confidence))[:, None], axis=0)


@dataclasses.dataclass(frozen=True)
class Placed:
  """A split, and what of it lies on the devices.

  Attributes:
    split: the data.
    shared: its images, where they fit.
    said: of every batch what the teachers say, once they were asked.
  """

  split: Dataset
  shared: feed.Shared
  said: list[Any] = dataclasses.field(default_factory=list)


class Evaluator:
  """Compiled once for an objective; used for every split."""

  def __init__(
    self,
    objective: Objective,
    replicas: Replicas,
    batch_size: int,
    most_mb: float = 4096,
    students: int = 1,
    *,
    unrolled: bool = False,
  ):
    """What is compiled, when it is first called.

    Args:
      objective: names networks and adapter.
      replicas: the devices.
      batch_size: global.
      most_mb: how much of what the teachers say may stay on the devices.
      students: how many `variables` are of.
      unrolled: see `state.students`.
    """
    self._students, self._unrolled = students, unrolled
    self._names = tuple(t.name for t in objective.teachers)
    self._objective, self._most = objective, most_mb * 2**20
    self._reading: Reading | None = None
    self._replicas = replicas
    self._batch_size = batch_size

    def say(teachers, shared, fed):
      batch = feed.plain(shared, fed)
      return self._reading.take(objective.teach(teachers, batch.image))

    def sums(variables, shared, fed):
      fed, said = fed
      batch = feed.plain(shared, fed)
      said = self._reading.give(said, len(batch.label))
      return self._each_sums(variables, batch, said)

    self._say = replicas.lift_rows(say)
    self._sums = profile.watched("evaluate", 1, replicas.lift_sums(sums))

  def place(self, split: Dataset) -> Placed:
    """A split on every device, as uint8; a streamed one where it lies."""
    return Placed(split, feed.shared(split, self._replicas))

  def __call__(
    self, variables: tuple[Variables, Any, tuple[Variables, ...]], data: Placed
  ) -> dict[str, Any]:
    """How good everyone is, and the mean weights.

    By name accuracy, cross-entropy and expected calibration error; of the
    student also its agreement, the share of images of which it says the same
    class as the uniform ensemble. `some_teacher_right` is the share of images
    that a perfect choice of teacher would get right, `weight_on_right` the mean
    weight of the teachers that are. The teachers are asked once: what they say
    of a split stays on the devices. Of several students it is their mean, with
    a list of each under `SEEDS`.

    Args:
      variables: the student's, the adapter's parameters, the teachers'.
      data: from `place`.
    """
    *own, teachers = variables
    total, waiting = None, None
    batches = feed.in_order(data.split, self._batch_size, self._replicas)
    if self._reading is None:
      self._reading = self._looks_at(own, teachers, data.split)
    keeps = self._reading.bytes * len(data.split.label) <= self._most
    for number, fed in enumerate(batches):
      said = data.said[number] if number < len(data.said) else ()
      if teachers and not said:
        said = self._say(teachers, data.shared, fed)
        data.said.extend([said] if keeps else [])
      sums = self._sums(tuple(own), data.shared, (fed, said))
      # One batch is in flight while the one before is added up.
      total, waiting = _added(total, waiting), sums
    total = _added(total, waiting)
    if self._students == 1:
      return self._means(total)
    each = [
      self._means(jax.tree.map(lambda x, k=k: x[k], total))
      for k in range(self._students)
    ]
    mean = jax.tree.map(lambda *x: float(np.mean(x)), *each)
    return {**mean, SEEDS: each}

  def _means(self, sums: dict[str, Any]) -> dict[str, Any]:
    total = dict(sums)
    count = total.pop("count")
    means = jax.tree.map(lambda x: np.asarray(x / count).tolist(), total)
    for own in means.values():
      if isinstance(own, dict):
        own["calibration_error"] = sum(map(abs, own.pop("gaps")))
    if "weights" in means:
      means["weights"] = dict(zip(self._names, means["weights"], strict=True))
    return means

  def _each_sums(self, variables: Any, batch: Batch, said: Any) -> Any:
    def sums(own: Any) -> dict[str, Any]:
      return batch_sums(self._objective, own, batch, said)

    every = state.students(sums, self._students, unrolled=self._unrolled)
    return every(variables)

  def _looks_at(self, own: Any, teachers: Any, split: Dataset) -> Reading:
    """What of the teachers' outputs the figures depend on."""
    rows = jax.ShapeDtypeStruct((2,), jnp.int32)
    image = jax.ShapeDtypeStruct((2, *split.image.shape[1:]), jnp.uint8)
    mask = jax.ShapeDtypeStruct((2,), jnp.float32)
    like = jax.eval_shape(self._objective.teach, teachers, image)

    def sums(said: Any, own: Any, batch: Batch) -> Any:
      return self._each_sums(tuple(own), batch, said)

    return Reading.of(sums, like, own, Batch(image, rows, rows, mask))


def _added(total: Any, sums: Any) -> Any:
  """The sums so far and another batch's, in double precision on the host."""
  if sums is None:
    return total
  host = jax.tree.map(np.float64, jax.device_get(sums))
  return host if total is None else jax.tree.map(np.add, total, host)
