"""The one place that knows about devices.

Everything else is written for one replica with an optional axis of replicas:
`axis` is its name where the code is lifted by pmap, and None where there is
one replica, or where plain jit over sharded arrays keeps the single-device
meaning by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from amtml_jax.errors import UserError

# The name of the axis of replicas under pmap.
AXIS = "replicas"

Tree = TypeVar("Tree")


def all_sum(x: jax.Array, axis: str | None) -> jax.Array:
  """The sum over the replicas; `x` itself where there is one."""
  return x if axis is None else jax.lax.psum(x, axis)


def all_rows(x: jax.Array, axis: str | None) -> jax.Array:
  """Every replica's rows, `(n, ...) -> (D·n, ...)`, in the replicas' order.

  Differentiable: a row's cotangent is the sum over all replicas.
  """
  return x if axis is None else jax.lax.all_gather(x, axis, tiled=True)


@dataclasses.dataclass(frozen=True)
class Replicas:
  """The local devices that share every batch.

  Under pmap a lifted function sees its own rows of what is sharded, and says
  its sums and gathers itself. Under jit it sees all rows, as on one device, and
  the compiler spreads them.

  Attributes:
    devices: in the order of their rows.
    lift: `pmap` or `jit`.
  """

  devices: tuple[jax.Device, ...]
  lift: str = "pmap"

  @property
  def count(self) -> int:
    """How many devices share a batch."""
    return len(self.devices)

  @property
  def axis(self) -> str | None:
    """The name that sums and gathers need, None where they need none."""
    return AXIS if self.lift == "pmap" else None

  def rows(self, batch_size: int, key: str = "batch_size") -> int:
    """Each device's rows of a batch; what does not divide is refused."""
    if batch_size % self.count:
      raise UserError(
        f"a batch of {batch_size} does not divide over {self.count} devices; "
        f"set config.{key} to a multiple of {self.count}, or config.devices "
        "to a divisor of it"
      )
    return batch_size // self.count

  def _sharding(self, *axes: str | None) -> jax.sharding.NamedSharding:
    mesh = jax.sharding.Mesh(np.asarray(self.devices), (AXIS,))
    spec = jax.sharding.PartitionSpec(*axes)
    return jax.sharding.NamedSharding(mesh, spec)

  def place(self, tree: Tree) -> Tree:
    """Copies a tree to every device.

    Placed before the first call, it has the sharding that later calls have,
    so that nothing compiles twice.
    """
    return jax.device_put(tree, self._sharding())

  def shard(self, rows: np.ndarray, axis: int = 0) -> np.ndarray:
    """Consecutive rows together: `(..., N)` -> `(..., D, N / D)` for pmap."""
    n = self.rows(rows.shape[axis])
    if self.lift == "jit":
      return rows
    shape = (*rows.shape[:axis], self.count, n, *rows.shape[axis + 1 :])
    return rows.reshape(shape)

  def lift_steps(self, step: Callable, steps: int) -> Callable:
    """Lifts `step(state, teachers, data, rows, epoch) -> (state, parts)`.

    Returns:
      A compiled `(state, teachers, data, rows, epochs, count) -> (state,
      parts)` that runs `count` of at most `steps` steps in one dispatch;
      `rows` is `shard` of `(steps, N)`, `epochs` `(steps,)`, and every part
      comes back as `(steps,)`. The state is donated.
    """

    def one(state, teachers, data, rows, epochs, count):
      del count
      state, parts = step(state, teachers, data, rows[0], epochs[0])
      return state, jax.tree.map(lambda x: x[None], parts)

    def many(state, teachers, data, rows, epochs, count):
      def run(i, carry):
        state, buffer = carry
        state, parts = step(state, teachers, data, rows[i], epochs[i])
        write = jax.tree.map(lambda b, x: b.at[i].set(x), buffer, parts)
        return state, write

      _, shapes = jax.eval_shape(
        step, state, teachers, data, rows[0], epochs[0]
      )
      buffer = jax.tree.map(
        lambda s: jnp.zeros((steps, *s.shape), s.dtype), shapes
      )
      # A dynamic trip count: the shorter last dispatch compiles nothing.
      return jax.lax.fori_loop(0, count, run, (state, buffer))

    lifted = one if steps == 1 else many
    if self.lift == "jit":
      whole, spread = self._sharding(), self._sharding(None, AXIS)
      return jax.jit(
        lifted,
        in_shardings=(whole, whole, whole, spread, whole, whole),
        out_shardings=whole,
        donate_argnums=(0,),
      )
    return jax.pmap(
      lifted,
      axis_name=AXIS,
      in_axes=(None, None, None, 1, None, None),
      out_axes=(None, None),
      donate_argnums=(0,),
      devices=self.devices,
    )

  def lift_sums(self, sums: Callable) -> Callable:
    """Lifts `sums(variables, data, rows, mask) -> sums over its rows`.

    Returns:
      A compiled function of `shard`ed rows and mask whose result is summed
      over the replicas.
    """

    def total(variables, data, rows, mask):
      local = sums(variables, data, rows, mask)
      return jax.tree.map(lambda x: all_sum(x, self.axis), local)

    if self.lift == "jit":
      whole, spread = self._sharding(), self._sharding(AXIS)
      return jax.jit(
        total,
        in_shardings=(whole, whole, spread, spread),
        out_shardings=whole,
      )
    return jax.pmap(
      total,
      axis_name=AXIS,
      in_axes=(None, None, 0, 0),
      out_axes=None,
      devices=self.devices,
    )


def replicas(devices: int = 0, lift: str = "pmap") -> Replicas:
  """The first `devices` local devices; all of them with 0."""
  local = jax.local_devices()
  if devices > len(local):
    raise UserError(
      f"config.devices={devices}, but this machine has {len(local)}; set it to "
      "0 to use all"
    )
  return Replicas(tuple(local[: devices or None]), lift)


def steps_per_dispatch(asked: int, epoch: int) -> int:
  """How many steps one dispatch runs.

  On a CPU one: XLA runs a convolution inside a loop on one core without its
  fast kernels (15 times slower here), and a CPU has no dispatch to hide.

  Args:
    asked: by the config; 0 chooses by the backend.
    epoch: steps of an epoch, which bound a dispatch.
  """
  if asked:
    return min(asked, epoch)
  return 1 if jax.default_backend() == "cpu" else min(50, epoch)
