"""What everyone says of every image, where evaluation keeps sums alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from amtml_jax import feed
from amtml_jax.checks import check
from amtml_jax.objective import Objective
from amtml_jax.parallel import Replicas
from amtml_jax.train import Training
from amtml_jax.types import Dataset


@dataclasses.dataclass(frozen=True)
class Heard:
  """Of N images, C classes and m teachers, as arrays of the host.

  Attributes:
    label: `(N,)`, what is right.
    student: `(N, C)` logits.
    teachers: `(m, N, C)` logits, in the manifest's order; m may be 0.
    log_weights: `(N, m)`, the adapter's; None where it has none outside
      training, or there are no teachers.
  """

  label: np.ndarray
  student: np.ndarray
  teachers: np.ndarray
  log_weights: np.ndarray | None


def listen(
  objective: Objective,
  replicas: Replicas,
  batch_size: int,
  variables: tuple[Any, Any, Any],
  split: Dataset,
) -> Heard:
  """Asks student, teachers and adapter about plain images, in their order.

  Args:
    objective: names networks and adapter.
    replicas: the devices.
    batch_size: global.
    variables: the student's, the adapter's parameters, the teachers'.
    split: the images.
  """
  has_weights = bool(objective.teachers) and not getattr(
    objective.adapter, "needs_labels", False
  )

  def rows(variables: Any, shared: feed.Shared, fed: feed.Fed) -> Any:
    student_variables, adapter, frozen = variables
    image = feed.plain(shared, fed).image
    student = objective.student.predict(student_variables, image)
    teachers = objective.teach(frozen, image)
    log_weights = ()
    if has_weights:
      log_weights = objective.adapter.apply(
        {"params": adapter}, student, teachers
      )
    said = [t.logits for t in teachers]
    return student.logits, said, log_weights

  lifted, shared = replicas.lift_rows(rows), feed.shared(split, replicas)
  batches = [
    jax.tree.map(replicas.every_row, lifted(variables, shared, fed))
    for fed in feed.in_order(split, batch_size, replicas)
  ]
  size = len(split.label)  # the last batch is padded
  student, said, log_weights = jax.tree.map(
    lambda *parts: np.concatenate(parts)[:size], *batches
  )
  return Heard(
    label=np.asarray(split.label),
    student=student,
    teachers=np.stack(said) if said else np.zeros((0, *student.shape)),
    log_weights=log_weights if has_weights else None,
  )


def of_run(training: Training, split: Dataset) -> Heard:
  """What the last student of a finished run, and its teachers, say of a split.

  Args:
    training: of one student, from `commands.restored`.
    split: of its `plan.splits`.
  """
  plan, current = training.plan, training.state
  check(
    plan.run.seeds == 1,
    f"config.seeds={plan.run.seeds} students say different things of an "
    "image; listen to a run of one",
  )
  return listen(
    plan.stages[0].objective,
    plan.replicas,
    plan.run.batch_size,
    (current.student, current.params["adapter"], plan.teachers),
    split,
  )
