"""Students that learn from each other (DML): soft labels of the peers."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtml_jax import precision, types


def mutual_loss(
  student_logits: jax.Array, peer_log_probs: jax.Array
) -> jax.Array:
  """KL divergence of the student from each of its peers, averaged over them.

  L_i = 1/(P-1) Σ_{p ≠ own} KL(p_p(x_i) ‖ p_own(x_i)) at temperature 1 (Zhang,
  Xiang, Hospedales, Lu 2018, equations 4 to 9). All students are updated at
  once, each towards what the others said before the update.

  Args:
    student_logits: `(N, C)`; receives gradient.
    peer_log_probs: `(P, N, C)`, the student's own among them: it is at distance
      0 from itself, with gradient 0. Receives none.

  Returns:
    `(N,)` in nats, not reduced.

  Raises:
    ValueError: if the shapes do not fit, or there is no peer.
  """
  peers = peer_log_probs.shape[0]
  if peers < 2 or peer_log_probs.shape[1:] != student_logits.shape:
    raise ValueError(
      "mutual_loss needs logits (N, C) and log-probabilities (P, N, C) of two "
      f"peers or more, not {student_logits.shape} and {peer_log_probs.shape}."
    )
  logits, target = precision.at_least_float32(
    student_logits, jax.lax.stop_gradient(peer_log_probs)
  )
  # What a peer holds for impossible adds nothing: 0 log 0 is 0.
  never = jnp.isneginf(target)
  apart = jnp.where(never, 0, target) - jax.nn.log_softmax(logits)[None]
  shares = jnp.where(never, 0, jnp.exp(target) * apart)
  return jnp.sum(shares, axis=(0, 2)) / (peers - 1)


class Term(nn.Module):
  """`mutual_loss` of the students of `config.peers`."""

  needs_teachers: ClassVar[bool] = False
  needs_peers: ClassVar[bool] = True

  ranking: tuple[int, ...] = ()

  def __call__(self, inputs: types.DistillInputs):
    """Returns the sum over rows and their number."""
    losses = mutual_loss(inputs.student.logits, inputs.peer_log_probs)
    return jnp.sum(losses), jnp.asarray(losses.shape[0], losses.dtype)
