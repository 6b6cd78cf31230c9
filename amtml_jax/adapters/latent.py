"""The paper's adapter: a latent factor a teacher, matched with instances."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtml_jax import pooling, precision
from amtml_jax.types import ModelOutput


def instance_representation(feature_map: jax.Array) -> jax.Array:
  """What an instance looks like to the student: its last map, max-pooled.

  β_i = max over H×W of B_i (Liu, Zhang, Wang 2020, section 3.1).

  Args:
    feature_map: `(N, H, W, d)`, the last convolutional stage; receives
      gradient.

  Returns:
    `(N, d)`, in at least float32.

  Raises:
    ValueError: if the map is not NHWC.
  """
  if feature_map.ndim != 4:
    raise ValueError(
      f"a feature map is (N, H, W, channels), not {feature_map.shape}."
    )
  return pooling.largest(*precision.at_least_float32(feature_map))


def log_weights(
  theta: jax.Array, v: jax.Array, representation: jax.Array
) -> jax.Array:
  """Logarithms of the teachers' weights for each instance.

  w_ti = softmax over t of γ_ti, γ_ti = vᵀ(θ_t ⊙ β_i) (Liu, Zhang, Wang 2020,
  section 3.1).

  Args:
    theta: `(m, d)`, a latent factor a teacher; receives gradient.
    v: `(d,)`, shared; receives gradient.
    representation: `(N, d)`, β; receives gradient.

  Returns:
    `(N, m)`, rows logsumexp to 0.

  Raises:
    ValueError: if the shapes do not fit.
  """
  if (
    theta.ndim != 2
    or not theta.shape[1:] == v.shape == representation.shape[1:]
  ):
    raise ValueError(
      "log_weights needs theta (m, d), v (d,) and a representation (N, d), not "
      f"{theta.shape}, {v.shape} and {representation.shape}."
    )
  theta, v, representation = precision.at_least_float32(
    theta, v, representation
  )
  scores = jnp.einsum(
    "nd,md->nm", representation, theta * v[None, :], precision="highest"
  )
  return jax.nn.log_softmax(scores, axis=-1)


def integrate(
  log_weights: jax.Array, teacher_log_probs: jax.Array
) -> jax.Array:
  """The integrated soft target, the teachers' weighted mean, in log space.

  log ỹᵀ_i = log Σ_t w_ti ỹ_ti (Liu, Zhang, Wang 2020, section 3.1). A weight or
  a probability of exactly 0 (-inf) adds 0, and receives gradient 0.

  Args:
    log_weights: `(N, m)`; receives gradient.
    teacher_log_probs: `(m, N, C)`; receives gradient.

  Returns:
    Log-probabilities `(N, C)`; -inf where every teacher says exactly 0.

  Raises:
    ValueError: if the shapes do not fit.
  """
  if teacher_log_probs.shape[:2] != log_weights.shape[::-1]:
    raise ValueError(
      "integrate needs log-weights (N, m) and teachers (m, N, C), not "
      f"{log_weights.shape} and {teacher_log_probs.shape}."
    )
  log_weights, teacher_log_probs = precision.at_least_float32(
    log_weights, teacher_log_probs
  )
  parts = log_weights.T[:, :, None] + teacher_log_probs
  absent = jnp.all(jnp.isneginf(parts), axis=0)
  parts = jnp.where(absent[None], 0, parts)
  return jnp.where(absent, -jnp.inf, jax.nn.logsumexp(parts, axis=0))


def l2(theta: jax.Array, v: jax.Array) -> jax.Array:
  """‖v‖² + Σ_t ‖θ_t‖², the optional pull on the adapter, a scalar.

  Args:
    theta: `(m, d)`; receives gradient.
    v: `(d,)`; receives gradient.
  """
  return jnp.sum(v**2) + jnp.sum(theta**2)


class Adapter(nn.Module):
  """The latent adapter with its two parameters, `theta` and `v`.

  Attributes:
    num_teachers: m.
    ranking: not looked at; every adapter is built alike.
    init_scale: the standard deviation of θ at the start.
    v_init_scale: that of v; 0 starts it at 1/√d in every entry.
    pooling: `max`; or `average`, which is what the authors' notebooks have:
      their max-pool gets a map that is averaged already.
    stop_gradient_representation: train θ and v without the student.
  """

  needs_labels: ClassVar[bool] = False

  num_teachers: int
  ranking: tuple[int, ...] = ()
  init_scale: float = 0.1
  v_init_scale: float = 0.0
  pooling: str = "max"
  stop_gradient_representation: bool = False

  @nn.compact
  def __call__(
    self,
    student: ModelOutput,
    teachers: tuple[ModelOutput, ...],
    labels: jax.Array | None = None,
  ) -> jax.Array:
    """Returns the log-weights `(N, m)`."""
    del teachers, labels
    if self.pooling == "average":
      (last,) = precision.at_least_float32(student.last)
      representation = jnp.mean(last, axis=(1, 2))
    else:
      representation = instance_representation(student.last)
    if self.stop_gradient_representation:
      representation = jax.lax.stop_gradient(representation)
    width = representation.shape[-1]
    theta = self.param(
      "theta",
      nn.initializers.normal(self.init_scale),
      (self.num_teachers, width),
      representation.dtype,
    )
    v_init = nn.initializers.constant(width**-0.5)
    if self.v_init_scale:
      v_init = nn.initializers.normal(self.v_init_scale)
    v = self.param("v", v_init, (width,), representation.dtype)
    return log_weights(theta, v, representation)
