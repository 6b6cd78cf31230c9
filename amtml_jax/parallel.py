"""The one place that knows about devices.

Everything else is written for one replica with an optional axis of replicas:
`axis` is its name where the code is lifted by pmap, and None where there is
one replica, or where plain jit over sharded arrays keeps the single-device
meaning by itself.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from amtml_jax.errors import UserError

# The name of the axis of replicas under pmap.
AXIS = "replicas"
# The name of the axis of students that learn from each other.
PEERS = "peers"

Tree = TypeVar("Tree")


def all_sum(x: jax.Array, axis: str | None) -> jax.Array:
  """The sum over the replicas; `x` itself where there is one."""
  return x if axis is None else jax.lax.psum(x, axis)


def all_rows(x: jax.Array, axis: str | None) -> jax.Array:
  """Every replica's rows, `(n, ...) -> (D·n, ...)`, in the replicas' order.

  Differentiable: a row's cotangent is the sum over all replicas.
  """
  return x if axis is None else jax.lax.all_gather(x, axis, tiled=True)


def all_peers(x: jax.Array) -> jax.Array:
  """Every peer's value, `(...) -> (P, ...)`, inside a function of peers."""
  return jax.lax.all_gather(x, PEERS)


@dataclasses.dataclass(frozen=True)
class Replicas:
  """The devices that share every batch.

  Under pmap a lifted function sees its own rows of what is sharded, and says
  its sums and gathers itself. Under jit it sees all rows, as on one device, and
  the compiler spreads them.

  Attributes:
    devices: in the order of their rows; as many of every process, and those of
      a process together.
    lift: `pmap` or `jit`.
  """

  devices: tuple[jax.Device, ...]
  lift: str = "pmap"

  @property
  def count(self) -> int:
    """How many devices share a batch."""
    return len(self.devices)

  @functools.cached_property
  def local(self) -> tuple[jax.Device, ...]:
    """Those of this process."""
    here = jax.process_index()
    return tuple(d for d in self.devices if d.process_index == here)

  @property
  def axis(self) -> str | None:
    """The name that sums and gathers need, None where they need none."""
    return AXIS if self.lift == "pmap" and self.count > 1 else None

  def describe(self, batch_size: int) -> str:
    """`2 processes x 4 devices (H200), pmap, batch 128 = 8 x 16`."""
    processes = self.count // len(self.local)
    return (
      f"{processes} process{'es' if processes > 1 else ''} x "
      f"{len(self.local)} device{'s' if len(self.local) > 1 else ''} "
      f"({self.devices[0].device_kind}), {self.lift}, batch {batch_size} = "
      f"{self.count} x {batch_size // self.count}"
    )

  def rows(self, batch_size: int, key: str = "batch_size") -> int:
    """Each device's rows of a batch; what does not divide is refused."""
    if batch_size % self.count:
      raise UserError(
        f"a batch of {batch_size} does not divide over {self.count} devices; "
        f"set config.{key} to a multiple of {self.count}, or config.devices "
        "to a divisor of it"
      )
    return batch_size // self.count

  def part(self, batch_size: int) -> slice:
    """Which rows of a batch this process feeds to its devices."""
    own = self.rows(batch_size) * len(self.local)
    return slice(jax.process_index() * own, (jax.process_index() + 1) * own)

  def _sharding(self, *axes: str | None) -> jax.sharding.NamedSharding:
    # What pmap takes and gives back whole lies on this process's devices.
    devices = self.local if self.lift == "pmap" else self.devices
    mesh = jax.sharding.Mesh(np.asarray(devices), (AXIS,))
    spec = jax.sharding.PartitionSpec(*axes)
    return jax.sharding.NamedSharding(mesh, spec)

  def place(self, tree: Tree) -> Tree:
    """Copies a tree, the same in every process, to every device.

    Placed before the first call, it has the sharding that later calls have,
    so that nothing compiles twice.
    """
    whole = self._sharding()
    if whole.is_fully_addressable:
      return jax.device_put(tree, whole)

    def spread(x: Any) -> jax.Array:
      if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(spread(jax.random.key_data(x)))
      host = np.asarray(x)
      return jax.make_array_from_callback(host.shape, whole, host.__getitem__)

    return jax.tree.map(spread, tree)

  def shard(self, part: np.ndarray, axis: int = 0) -> np.ndarray | jax.Array:
    """Rows of this process, as a lifted function takes them.

    Consecutive rows stay together: for pmap `(..., n·D, ...)` becomes
    `(..., D, n, ...)` for the D devices of this process.
    """
    if self.lift == "pmap":
      shape = (len(self.local), -1)
      return part.reshape(*part.shape[:axis], *shape, *part.shape[axis + 1 :])
    spread = self._sharding(*[None] * axis, AXIS)
    if spread.is_fully_addressable:
      return part
    return jax.make_array_from_process_local_data(spread, part)

  def put(self, part: np.ndarray, axis: int = 0) -> jax.Array:
    """A `shard` on its devices: calls that repeat it upload nothing."""
    spread = self._sharding(*[None] * axis, AXIS)
    return jax.device_put(self.shard(part, axis), spread)

  def each(self, values: np.ndarray) -> np.ndarray | jax.Array:
    """The same values `(K,)` for each device of this process, sharded."""
    return self.shard(np.tile(values, (len(self.local), 1)))

  def lift_steps(self, step: Callable, steps: int) -> Callable:
    """Lifts `step(state, teachers, shared, fed, epoch) -> (state, parts)`.

    Returns:
      A compiled `(state, teachers, shared, fed, epochs, count, asks) -> (state,
      parts, asked)` that runs `count` of at most `steps` steps in one dispatch.
      `fed` is a tree of `shard`s of `(steps, N, ...)`, `epochs` `(steps,)`, and
      every part comes back as `(steps,)`. `asks` is the `shard` of what each
      device asks all for, `(D, K)` whole numbers, and `asked` their sum: so
      every process knows, with the metrics, what any of them asked. The state
      is donated.
    """

    def at(fed, i):
      return jax.tree.map(lambda x: x[i], fed)

    def one(state, teachers, shared, fed, epochs, count):
      del count
      state, parts = step(state, teachers, shared, at(fed, 0), epochs[0])
      return state, jax.tree.map(lambda x: x[None], parts)

    def many(state, teachers, shared, fed, epochs, count):
      def run(i, carry):
        state, buffer = carry
        state, parts = step(state, teachers, shared, at(fed, i), epochs[i])
        write = jax.tree.map(lambda b, x: b.at[i].set(x), buffer, parts)
        return state, write

      _, shapes = jax.eval_shape(
        step, state, teachers, shared, at(fed, 0), epochs[0]
      )
      buffer = jax.tree.map(
        lambda s: jnp.zeros((steps, *s.shape), s.dtype), shapes
      )
      # A dynamic trip count: the shorter last dispatch compiles nothing.
      return jax.lax.fori_loop(0, count, run, (state, buffer))

    def lifted(state, teachers, shared, fed, epochs, count, asks):
      run = one if steps == 1 else many
      state, parts = run(state, teachers, shared, fed, epochs, count)
      return state, parts, all_sum(jnp.sum(asks, axis=0), self.axis)

    if self.lift == "jit":
      whole = self._sharding()
      return jax.jit(
        lifted,
        in_shardings=(
          *(whole, whole, whole, self._sharding(None, AXIS)),
          *(whole, whole, self._sharding(AXIS)),
        ),
        out_shardings=whole,
        donate_argnums=(0,),
      )
    return jax.pmap(
      lifted,
      axis_name=AXIS,
      in_axes=(None, None, None, 1, None, None, 0),
      out_axes=(None, None, None),
      donate_argnums=(0,),
      devices=self.devices,
    )

  def lift_rows(self, rows: Callable) -> Callable:
    """Lifts `rows(variables, shared, fed) -> a tree of its rows' values`.

    Returns:
      A compiled function of a tree `fed` of `shard`s, whose result is spread
      as they are: what another lifted function may be fed.
    """
    if self.lift == "jit":
      whole, spread = self._sharding(), self._sharding(AXIS)
      return jax.jit(
        rows, in_shardings=(whole, whole, spread), out_shardings=spread
      )
    return jax.pmap(
      rows, axis_name=AXIS, in_axes=(None, None, 0), devices=self.devices
    )

  def every_row(self, spread: jax.Array) -> np.ndarray:
    """All rows, in their order, of what `lift_rows` gave; every process."""
    shards = sorted(
      spread.addressable_shards, key=lambda s: s.index[0].start or 0
    )
    parts = [np.asarray(s.data) for s in shards]
    if self.lift == "pmap":  # (1, n, ...) of every device
      parts = [part[0] for part in parts]
    own = np.concatenate(parts)
    if self.count == len(self.local):
      return own
    return np.asarray(multihost_utils.process_allgather(own, tiled=True))

  def lift_sums(self, sums: Callable) -> Callable:
    """Lifts `sums(variables, shared, fed) -> sums over its rows`.

    Returns:
      A compiled function of a tree `fed` of `shard`s whose result is summed
      over the replicas.
    """

    def total(variables, shared, fed):
      local = sums(variables, shared, fed)
      return jax.tree.map(lambda x: all_sum(x, self.axis), local)

    if self.lift == "jit":
      whole, spread = self._sharding(), self._sharding(AXIS)
      return jax.jit(
        total, in_shardings=(whole, whole, spread), out_shardings=whole
      )
    return jax.pmap(
      total,
      axis_name=AXIS,
      in_axes=(None, None, 0),
      out_axes=None,
      devices=self.devices,
    )


def replicas(devices: int = 0, lift: str = "pmap") -> Replicas:
  """The first `devices` devices of every process; all of them with 0."""
  each = [jax.local_devices(p) for p in range(jax.process_count())]
  least = min(map(len, each))
  if devices > least:
    raise UserError(
      f"config.devices={devices}, but "
      + ("this machine" if len(each) == 1 else "a process")
      + f" has {least}; set it to 0 to use all"
    )
  if not devices and least < max(map(len, each)):
    raise UserError(
      f"the processes have from {least} to {max(map(len, each))} devices; set "
      f"config.devices={least} to use as many of each"
    )
  chosen = [d for own in each for d in own[: devices or None]]
  return Replicas(tuple(chosen), lift)


def once(function: Callable[[], Tree]) -> Tree:
  """The value of a function that is compiled to run this one time.

  As one program: operation by operation it would take many times as long. On a
  CPU not an optimised one: that takes four times as long to compile.
  """
  quick = {"xla_backend_optimization_level": 0}
  options = quick if jax.default_backend() == "cpu" else None
  return jax.jit(function, compiler_options=options)()
