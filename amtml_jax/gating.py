"""The two layers of the adapters that gate."""

import flax.linen as nn
import jax

_HE_NORMAL = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def log_weights(
  seen: jax.Array, num_teachers: int, *, hidden: int, init_scale: float
) -> jax.Array:
  """w_i = softmax(W₂ relu(W₁ x_i + b₁) + b₂).

  For a module's compact call, which owns its parameters: `hidden` and `scores`.

  Args:
    seen: x, a row an example.
    num_teachers: m.
    hidden: the units of the hidden layer.
    init_scale: the standard deviation of W₂ at the start, times √hidden: small,
      so that all weights start near 1/m, and not 0, so that W₁ learns at once.

  Returns:
    Log-weights `(N, m)`, rows logsumexp to 0.
  """
  kind = {
    "dtype": seen.dtype,
    "param_dtype": seen.dtype,
    "precision": "highest",
  }
  units = nn.Dense(hidden, kernel_init=_HE_NORMAL, name="hidden", **kind)
  start = nn.initializers.normal(init_scale * hidden**-0.5)
  scores = nn.Dense(num_teachers, kernel_init=start, name="scores", **kind)
  return jax.nn.log_softmax(scores(nn.relu(units(seen))), axis=-1)
