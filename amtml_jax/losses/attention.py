"""Where a network looks: the attention maps of its stages."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtml_jax import pairwise, pooling, precision, types


def attention_map(feature_map: jax.Array) -> jax.Array:
  """Squared activations averaged over channels, flattened, of length 1.

  Zagoruyko, Komodakis (2017), F²_sum; the mean instead of the sum cancels in
  the normalisation.

  Args:
    feature_map: `(N, H, W, channels)`; receives gradient.

  Returns:
    `(N, H·W)`; 0, with gradient 0, where the map is all zero.
  """
  (feature_map,) = precision.at_least_float32(feature_map)
  energy = jnp.mean(feature_map**2, axis=-1)
  return pairwise.unit(energy.reshape(energy.shape[0], -1))[0]


def attention_loss(student_map: jax.Array, teacher_map: jax.Array) -> jax.Array:
  """Mean squared difference between two stages' attention maps.

  L_AT = mean over (N, H·W) of (q^S - qᵀ)², q = `attention_map` (Zagoruyko,
  Komodakis 2017, as RKD's and CRD's code has it). An example whose map is all
  zero on either side adds 0, with gradient 0: it has nothing to compare.

  Args:
    student_map: `(N, H, W, channels)`; receives gradient. Computed in at least
      float32.
    teacher_map: `(N, H, W, any channels)`; receives none.

  Returns:
    A scalar.

  Raises:
    ValueError: if N, H or W differ.
  """
  return jnp.mean(attention_rows(student_map, teacher_map))


def attention_rows(student_map: jax.Array, teacher_map: jax.Array) -> jax.Array:
  """`attention_loss` of every row, `(N,)`."""
  if student_map.ndim != 4 or student_map.shape[:3] != teacher_map.shape[:3]:
    raise ValueError(
      "attention maps need features (N, H, W, channels) with the same N, H and "
      f"W, not {student_map.shape} and {teacher_map.shape}."
    )
  student = attention_map(student_map)
  target = jax.lax.stop_gradient(attention_map(teacher_map))
  comparable = jnp.any(student != 0, axis=-1) & jnp.any(target != 0, axis=-1)
  losses = jnp.mean((student - target) ** 2, axis=-1)
  return jnp.where(comparable, losses, 0)


class Term(nn.Module):
  """`attention_loss` to one teacher, summed over stages of equal depth.

  It is the one that the adapter listens to, or, of an adapter that listens to
  several, the one that the ranking puts first. Its stage l is compared with the
  student's stage l, up to the shorter of the two networks; the larger map is
  pooled to the smaller.
  """

  needs_teachers: ClassVar[bool] = True

  ranking: tuple[int, ...] = ()

  def __call__(self, inputs: types.DistillInputs):
    """Returns the rows' sum and their number."""
    index = inputs.only
    if index is None:
      index = self.ranking[0] if self.ranking else 0
    teacher = inputs.teachers[index]
    # The shorter network ends the comparison.
    stages = zip(inputs.student.stages, teacher.stages, strict=False)
    losses = sum(
      attention_rows(*pooling.common_size(*precision.at_least_float32(s, t)))
      for s, t in stages
    )
    return jnp.sum(losses), jnp.asarray(losses.size, losses.dtype)
