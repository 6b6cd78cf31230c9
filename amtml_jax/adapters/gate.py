"""A two-layer net that looks at the instance and at what the teachers say."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtml_jax import gating, pooling, precision
from amtml_jax.types import ModelOutput


def evidence(
  feature_map: jax.Array, teacher_logits: jax.Array, temperature: float = 1.0
) -> jax.Array:
  """What the gate looks at: β_i and every teacher's probabilities, about 0.

  x_i = (β̂_i, softmax(z_1,i / T) - 1/C, ..., softmax(z_m,i / T) - 1/C), β_i the
  largest activation of every channel (as the latent adapter's), β̂_i the same
  less its mean over the channels and by √(its variance + 1e-5). Inputs that are
  all positive push all of a unit's weights one way: a large step, and it is
  dead.

  Args:
    feature_map: `(N, H, W, d)`, the student's last; receives no gradient: the
      student's features are not to change for the weights' sake.
    teacher_logits: `(m, N, C)`; receives none.
    temperature: T > 0; above 1, what a teacher holds possible shows beside what
      it is sure of.

  Returns:
    `(N, d + m·C)`, in at least float32.

  Raises:
    ValueError: if the shapes do not fit.
  """
  if feature_map.ndim != 4 or (
    teacher_logits.ndim != 3 or teacher_logits.shape[1] != len(feature_map)
  ):
    raise ValueError(
      "gate needs a feature map (N, H, W, channels) and teachers (m, N, C), "
      f"not {feature_map.shape} and {teacher_logits.shape}."
    )
  feature_map, logits = precision.at_least_float32(
    *jax.lax.stop_gradient((feature_map, teacher_logits))
  )
  probs = jnp.moveaxis(jax.nn.softmax(logits / temperature, axis=-1), 0, 1)
  said = (probs - 1 / probs.shape[-1]).reshape(len(probs), -1)
  largest = pooling.largest(feature_map)
  about = largest - jnp.mean(largest, axis=-1, keepdims=True)
  # Not E β² - (E β)², which cancels where all are large and alike.
  variance = jnp.mean(jnp.square(about), axis=-1, keepdims=True)
  seen = about * jax.lax.rsqrt(variance + 1e-5)
  return jnp.concatenate([seen, said], axis=-1)


class Adapter(nn.Module):
  """w_i = softmax(W₂ relu(W₁ x_i + b₁) + b₂), x = `evidence`.

  Not in the paper. The latent adapter sees the student alone; this one sees
  that a teacher is unsure, or that the teachers disagree. Made to be trained by
  the term `mixture`; gradient reaches its four parameters and nothing else.

  Attributes:
    num_teachers: m.
    ranking: not looked at; every adapter is built alike.
    hidden: the units of the hidden layer.
    init_scale: of W₂ at the start (gating.py).
    evidence_temperature: T of `evidence`.
  """

  needs_labels: ClassVar[bool] = False

  num_teachers: int
  ranking: tuple[int, ...] = ()
  hidden: int = 32
  init_scale: float = 0.1
  evidence_temperature: float = 1.0

  @nn.compact
  def __call__(
    self,
    student: ModelOutput,
    teachers: tuple[ModelOutput, ...],
    labels: jax.Array | None = None,
  ) -> jax.Array:
    """Returns the log-weights `(N, m)`, rows logsumexp to 0."""
    del labels
    said = jnp.stack([t.logits for t in teachers])
    return gating.log_weights(
      evidence(student.last, said, self.evidence_temperature),
      self.num_teachers,
      hidden=self.hidden,
      init_scale=self.init_scale,
    )
