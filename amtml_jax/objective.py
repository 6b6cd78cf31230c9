"""Student, teachers, adapter and terms -> one number and its named parts.

L = Σ_terms weight · (sum / count) + μ(‖v‖² + Σ‖θ‖²)      (SPEC: section 4)

Every part is a (sum, count) pair of one replica's rows. `Objective.loss`
divides by the count over all replicas, so that summing its value, and its
gradient, over the replicas gives those of the global batch.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from amtml_jax import config, parallel, plugins
from amtml_jax.adapters import latent
from amtml_jax.errors import UserError
from amtml_jax.losses import kd
from amtml_jax.network import Network, Variables
from amtml_jax.types import Batch, DistillInputs, ModelOutput

Parts = dict[str, tuple[jax.Array, jax.Array]]


class Aux(flax.struct.PyTreeNode):
  """What a loss evaluation gives beside the loss."""

  batch_stats: Any
  parts: Parts


@dataclasses.dataclass(frozen=True)
class Objective:
  """What is to be made small; holds no arrays.

  Attributes:
    student: the network that learns.
    teachers: frozen networks, in the manifest's order.
    adapter: gives each teacher's weight; None without teachers.
    terms: (name, weight, linen term).
    temperature: τ.
    l2: μ.
    axis: of replicas, None where there is one.
    peers: students that learn from each other; 1 learns alone.
    hears: whether the others are there; if not, each hears its own echo.
  """

  student: Network
  teachers: tuple[Network, ...]
  adapter: nn.Module | None
  terms: tuple[tuple[str, float, nn.Module], ...]
  temperature: float
  l2: float = 0.0
  axis: str | None = None
  peers: int = 1
  hears: bool = True

  def teach(
    self, variables: tuple[Variables, ...], image: jax.Array
  ) -> tuple[ModelOutput, ...]:
    """Every teacher's output; no gradient reaches a teacher."""
    outputs = tuple(
      teacher.predict(frozen, image)
      for teacher, frozen in zip(self.teachers, variables, strict=True)
    )
    return jax.lax.stop_gradient(outputs)

  def inputs(
    self,
    adapter_params: Any,
    student: ModelOutput,
    teachers: tuple[ModelOutput, ...],
    labels: jax.Array,
  ) -> DistillInputs:
    """Weighs the teachers and mixes their soft targets."""
    common = dict(
      student=student,
      labels=labels,
      temperature=self.temperature,
      axis=self.axis,
      peer_log_probs=self._heard(student.logits),
    )
    if not teachers:
      return DistillInputs(**common)
    logits = jnp.stack([t.logits for t in teachers])
    log_weights = self.adapter.apply(
      {"params": adapter_params}, student, teachers, labels
    )
    only = getattr(self.adapter, "only_teacher", None)
    if only is None:
      said = kd.soft_targets(logits, self.temperature)
      target = latent.integrate(log_weights, said)
    else:
      target = kd.soft_targets(teachers[only].logits, self.temperature)
    return DistillInputs(
      **common,
      teachers=teachers,
      log_weights=log_weights,
      only=only,
      teacher_log_probs=kd.soft_targets(logits, 1.0),
      target_log_probs=target,
    )

  def _heard(self, logits: jax.Array) -> jax.Array | None:
    """What all peers say, in a function of peers; None of a lone student."""
    if self.peers == 1:
      return None
    own = jax.lax.stop_gradient(kd.soft_targets(logits, 1.0))
    if not self.hears:
      return jnp.broadcast_to(own[None], (self.peers, *own.shape))
    return parallel.all_peers(own)

  def init(
    self, key: jax.Array, image_shape: tuple[int, ...]
  ) -> tuple[dict[str, Any], Any]:
    """Fresh `{student, adapter, terms}` and the student's batch statistics."""
    keys = [jax.random.fold_in(key, i) for i in range(3)]
    student = self.student.init(keys[0], image_shape)
    labels = jnp.zeros((2,), jnp.int32)
    # Shapes are enough to initialise adapter and terms.
    outputs = self.student.shapes(image_shape)[0]
    teachers = tuple(t.shapes(image_shape)[0] for t in self.teachers)
    zeros = jax.tree.map(
      lambda x: jnp.zeros(x.shape, x.dtype), (outputs, teachers)
    )
    adapter = {}
    if teachers:
      adapter = self.adapter.init(keys[1], *zeros, labels).get("params", {})
    alone = dataclasses.replace(self, hears=False)
    inputs = alone.inputs(adapter, *zeros, labels)
    local = inputs.replace(axis=None)
    terms = {
      name: term.init(jax.random.fold_in(keys[2], i), local).get("params", {})
      for i, (name, _, term) in enumerate(self.terms)
    }
    params = {"student": student["params"], "adapter": adapter, "terms": terms}
    return params, student["batch_stats"]

  def loss(
    self,
    params: dict[str, Any],
    batch_stats: Any,
    teachers: tuple[ModelOutput, ...],
    batch: Batch,
    keys: jax.Array,
  ) -> tuple[jax.Array, Aux]:
    """One replica's share of the global batch's loss, and its parts.

    Gradient reaches the student, the adapter and the terms' own parameters.
    """
    variables = {"params": params["student"], "batch_stats": batch_stats}
    student, batch_stats = self.student.train(variables, batch.image, keys)
    inputs = self.inputs(params["adapter"], student, teachers, batch.label)
    parts, total = {}, 0.0
    for name, weight, term in self.terms:
      seen = inputs
      if getattr(term, "holds_representation", False):
        held = jax.lax.stop_gradient(student)
        seen = self.inputs(params["adapter"], held, teachers, batch.label)
      value, count = term.apply({"params": params["terms"][name]}, seen)
      parts[name] = (value, count)
      total += weight * value / parallel.all_sum(count, self.axis)
    if self.l2 and params["adapter"]:
      pull = latent.l2(params["adapter"]["theta"], params["adapter"]["v"])
      # Every replica holds the same v and θ: each adds its share.
      share = 1.0 / parallel.all_sum(jnp.ones(()), self.axis)
      parts["adapter_l2"] = (share * pull, share)
      total += self.l2 * share * pull
    return total, Aux(batch_stats, parts | self.watch(inputs))

  def watch(self, inputs: DistillInputs) -> Parts:
    """What a person follows beside the losses: accuracy, who is heard."""
    rows = jnp.asarray(inputs.labels.shape[0], jnp.float32)
    hit = jnp.argmax(inputs.student.logits, -1) == inputs.labels
    hit = hit.astype(jnp.float32)
    parts = {"accuracy": (jnp.sum(hit), rows)}
    if inputs.log_weights is not None:
      weights = jnp.exp(inputs.log_weights)
      parts["weights_entropy"] = (jnp.sum(entropy(inputs.log_weights)), rows)
      for t, teacher in enumerate(self.teachers):
        parts[f"weight/{teacher.name}"] = (jnp.sum(weights[:, t]), rows)
    return jax.lax.stop_gradient(parts)


def entropy(log_weights: jax.Array) -> jax.Array:
  """`-Σ_t w log w` of `(N, m)` log-weights -> `(N,)`; 0 log 0 is 0."""
  finite = jnp.where(jnp.isneginf(log_weights), 0.0, log_weights)
  return -jnp.sum(jnp.exp(log_weights) * finite, axis=-1)


def build(
  run: config.Run,
  terms: tuple[config.Term, ...],
  student: Network,
  teachers: tuple[Network, ...],
  ranking: tuple[int, ...],
  *,
  axis: str | None = None,
) -> Objective:
  """The objective of one phase of a run.

  Args:
    run: the checked config.
    terms: the phase's.
    student: built with the same `axis`.
    teachers: in the manifest's order; empty where no term needs one.
    ranking: the teachers' indices, best held-out accuracy first.
    axis: of replicas.
  """
  adapter = None
  if teachers:
    adapter = plugins.find("adapters", run.adapter.name)(
      num_teachers=len(teachers), ranking=ranking, **run.adapter.settings
    )
    if run.adapter.l2 and run.adapter.name != "latent":
      raise UserError(
        "config.adapter.l2 pulls on v and θ, which only the latent adapter "
        f"has; set it to 0 with config.adapter.name={run.adapter.name}"
      )
  built = tuple(
    (
      term.label,
      term.weight,
      plugins.find("losses", term.plugin)(ranking=ranking, **term.settings),
    )
    for term in terms
  )
  # Only who learns starts anew: the teachers' weights are restored.
  student = dataclasses.replace(student, init_std=run.student_init_std)
  return Objective(
    *(student, teachers, adapter, built, run.temperature, run.adapter.l2),
    axis=axis,
    peers=run.peers,
  )
