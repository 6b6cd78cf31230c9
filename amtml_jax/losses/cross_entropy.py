"""Cross-entropy with the hard labels."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from amtml_jax import precision, types


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Cross-entropy of a network's prediction with the label, at temperature 1.

  CE_i = -log softmax(z_i)[y_i], the hard part of L_KD (Liu, Zhang, Wang 2020,
  section 3.2).

  Args:
    logits: `(N, C)`; receives gradient. Computed in at least float32.
    labels: `(N,)` integers in [0, C).

  Returns:
    `(N,)` in nats, not reduced.

  Raises:
    ValueError: if the shapes do not fit.
  """
  if logits.ndim != 2 or labels.shape != logits.shape[:1]:
    raise ValueError(
      "cross_entropy needs logits (N, C) and labels (N,), not "
      f"{logits.shape} and {labels.shape}."
    )
  (logits,) = precision.at_least_float32(logits)
  return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)


class Term(nn.Module):
  """`cross_entropy` over one replica's rows.

  Attributes:
    ranking: not looked at; every term is built alike.
    softened: of the prediction at temperature τ, as in the authors' notebooks,
      which hand logits already divided and normalised to the loss.
  """

  needs_teachers: ClassVar[bool] = False

  ranking: tuple[int, ...] = ()
  softened: bool = False

  def __call__(self, inputs: types.DistillInputs):
    """Returns the rows' sum and their number."""
    temperature = inputs.temperature if self.softened else 1.0
    (logits,) = precision.at_least_float32(inputs.student.logits)
    losses = cross_entropy(logits / temperature, inputs.labels)
    return jnp.sum(losses), jnp.asarray(losses.size, losses.dtype)
