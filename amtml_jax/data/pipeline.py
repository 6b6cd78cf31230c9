"""From images on the devices to a step's batch, inside the compiled step.

What is random depends on (seed, epoch, example) and on nothing else: a run
that resumed, or is spread over other devices, sees the same pictures.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from amtml_jax.errors import UserError
from amtml_jax.types import Batch


@functools.lru_cache(maxsize=8)  # every step of an epoch asks for it
def order(seed: int | tuple[int, ...], epoch: int, size: int) -> np.ndarray:
  """A permutation of `size` rows, the same on every machine; `(size,)` int32.

  Of several seeds, `(size, K)`: a column each.

  It sorts the raw words of the counter-based generator Philox keyed by (seed,
  epoch): bit generators are stable across NumPy's versions, which
  `Generator.permutation` does not promise.
  """
  if isinstance(seed, tuple):
    each = [order.__wrapped__(one, epoch, size) for one in seed]
    return np.stack(each, axis=1)
  key = np.array([seed & (2**64 - 1), epoch], np.uint64)
  words = np.random.Philox(key=key).random_raw(size)
  rows = np.argsort(words, kind="stable").astype(np.int32)
  rows.flags.writeable = False  # the cache hands out this very array
  return rows


def rows_of(
  step: int, *, seed: int | tuple[int, ...], size: int, batch: int
) -> tuple[np.ndarray, int]:
  """The rows `(batch,)` that global step `step` sees, and its epoch.

  Of several seeds, `(batch, K)`.

  An epoch has `size // batch` steps; the rows left over at its end are other
  ones in every epoch.
  """
  if not 0 < batch <= size:
    raise UserError(
      f"a batch of {batch} cannot be drawn from {size} training images; set "
      f"the batch from 1 to {size}"
    )
  epoch, place = divmod(step, size // batch)
  return order(seed, epoch, size)[place * batch : (place + 1) * batch], epoch


def draw(
  images: jax.Array,
  labels: jax.Array,
  rows: jax.Array | None,
  *,
  example: jax.Array | None = None,
  key: jax.Array,
  epoch: int | jax.Array,
  pad: int,
  flip: bool,
) -> Batch:
  """A training batch: random crops of padded images, mirrored half the time.

  The padding is raw 0, black, before normalisation, so that after it the
  border is -mean / std. Each example draws from
  `fold_in(fold_in(key, epoch), example)`. With `pad=0, flip=False` images come
  as they are. Padding, crop and mirror are one gather by computed indices
  straight from the data set: as fast as the bare gather of the rows on CPU.

  Args:
    images: `(size, H, W, channels)` uint8: the data set, or a part of it.
    labels: `(size,)` int32.
    rows: `(N,)` int32 in `[0, size)`, places in `images`; None where they are
      the batch, so that nothing is looked up across devices.
    example: `(N,)` int32, the rows of the data set; None where `images` is all
      of it, so that they are `rows`.
    key: a typed PRNG key.
    epoch: of the step; may be traced.
    pad: pixels on every side; static.
    flip: whether to mirror; static.
  """
  images, labels = jnp.asarray(images), jnp.asarray(labels)
  example = jnp.asarray(rows if example is None else example, jnp.int32)
  batch = Batch(
    image=images if rows is None else images[rows],
    label=labels if rows is None else labels[rows],
    example=example,
    mask=jnp.ones(example.shape, jnp.float32),
  )
  if not pad and not flip:
    return batch
  height, width = images.shape[1:3]
  key = jax.random.fold_in(key, epoch)
  words = jax.vmap(
    lambda row: jax.random.bits(jax.random.fold_in(key, row), (3,), "uint32")
  )(example)
  # The remainder's bias is below 1e-8 for any pad that makes sense.
  shift = (words[:, :2] % np.uint32(2 * pad + 1)).astype(jnp.int32) - pad
  y = jnp.arange(height)[None] + shift[:, :1]
  x = jnp.arange(width)[None]
  if flip:
    x = jnp.where(words[:, 2:] >> 31 == 1, width - 1 - x, x)
  x = x + shift[:, 1:]
  inside = ((y >= 0) & (y < height))[:, :, None, None] & (
    (x >= 0) & (x < width)
  )[:, None, :, None]
  y = y.clip(0, height - 1)[:, :, None]
  x = x.clip(0, width - 1)[:, None, :]
  if rows is None:
    image = jax.vmap(lambda own, y, x: own[y, x])(images, y, x)
  else:
    image = images[jnp.asarray(rows)[:, None, None], y, x]
  return batch.replace(image=jnp.where(inside, image, 0).astype(images.dtype))


def padded(rows: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray]:
  """`rows` filled up to `(batch,)` with row 0, and a mask that is 0 there."""
  if len(rows) > batch:
    raise ValueError(f"{len(rows)} rows do not fit into a batch of {batch}")
  missing = batch - len(rows)
  mask = np.ones(batch, np.float32)
  mask[len(rows) :] = 0
  return np.pad(np.asarray(rows, np.int32), (0, missing)), mask
