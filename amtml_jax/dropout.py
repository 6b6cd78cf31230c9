"""Dropout whose masks belong to examples, not to places in a batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from amtml_jax.errors import UserError


class ExampleDropout(nn.Module):
  """y = x ⊙ m / (1 - rate), with m ~ Bernoulli(1 - rate) from each row's key.

  `nn.Dropout` draws one mask for the batch it sees, so that the same example
  meets another mask when the batch is split over other devices. Here row i
  depends on `keys[i]` alone. (The keys must be of the default, threefry, kind:
  under `vmap` the bits of `rbg` keys depend on the rest of the batch.)

  Attributes:
    rate: the probability of a zero, in [0, 1).
    site: a number of its own for every dropout of a network; without it they
      would all drop the same units.
  """

  rate: float
  site: int = 0

  @nn.compact
  def __call__(
    self, x: jax.Array, keys: jax.Array | None, *, train: bool
  ) -> jax.Array:
    """Drops entries of x (N, ...) by keys (N,); the identity outside training.

    Raises:
      UserError: where the rate is not one.
      ValueError: in training, where there is not one key an example.
    """
    if not 0.0 <= self.rate < 1.0:
      raise UserError(f"a dropout rate is in [0, 1), not {self.rate}")
    if not train or self.rate == 0.0:
      return x
    if keys is None or keys.shape != x.shape[:1]:
      got = None if keys is None else keys.shape
      raise ValueError(
        f"training needs one key an example: {x.shape[:1]}, not {got}"
      )
    # A float32 probability: the same mask in every precision.
    keep = jnp.float32(1.0 - self.rate)

    def mask(key: jax.Array) -> jax.Array:
      key = jax.random.fold_in(key, self.site)
      return jax.random.bernoulli(key, keep, x.shape[1:])

    return jnp.where(jax.vmap(mask)(keys), x / (1.0 - self.rate), 0.0)
