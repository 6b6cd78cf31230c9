"""Where a CPU's step is slower than PyTorch's: one convolution, piece by piece.

    pip install -e '.[torch]'
    python experiments/convolutions.py

The 3×3 convolutions of ResNet-20's three stages, batch 128 of 32×32 images,
float32: forward, the gradient of its input, and that of its kernel, by XLA and
by PyTorch eager in alternating turns. Beside them the billions of additions and
multiplications a second that each reaches, and in the last rows what XLA makes
of the kernel's gradient as one matrix product, patches already gathered: what
any way to write it could save. Prints the table and writes convolutions.json.
"""

import functools
import pathlib
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
from absl import flags
from rich.console import Console
from rich.table import Table

from amtml_jax import files, measure
from amtml_jax.measure import Side

WORKDIR = flags.DEFINE_string("workdir", "runs/bench", "where to write")
ROUNDS = flags.DEFINE_integer("rounds", 7, "turns of each side")
BATCH = 128
STAGES = ((32, 16), (16, 32), (8, 64))  # pixels of a side, channels
PIECES = ("forward", "input's gradient", "kernel's gradient")


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """3×3, stride 1, as the networks do it."""
  return jax.lax.conv_general_dilated(
    *(x, kernel, (1, 1), "SAME"), dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


def ours(piece: str, x: np.ndarray, kernel: np.ndarray) -> Callable:
  """One piece, compiled; the output's gradient is as large as the input."""
  if piece == "forward":
    return functools.partial(jax.jit(convolve), x, kernel)
  if piece == "input's gradient":
    pull = jax.jit(lambda g: jax.vjp(lambda x: convolve(x, kernel), x)[1](g))
  else:
    pull = jax.jit(
      lambda x, g: jax.vjp(lambda k: convolve(x, k), jnp.asarray(kernel))[1](g)
    )
    return functools.partial(pull, x, x)
  return functools.partial(pull, x)


def theirs(piece: str, x: np.ndarray, kernel: np.ndarray) -> Callable:
  """The same in PyTorch, channels first, its eager layout."""
  image = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()
  weight = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous()
  if piece == "forward":
    return functools.partial(torch.conv2d, image, weight, padding=1)
  wants = [piece == "input's gradient", piece == "kernel's gradient", False]
  return lambda: torch.ops.aten.convolution_backward(
    *(image, image, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
    wants,
  )


def main() -> None:
  """Measures, prints, writes."""
  rng = np.random.default_rng(0)
  table = Table("stage", "piece", "XLA", "PyTorch", "ratio")
  result: list[dict[str, object]] = []

  def row(stage: str, piece: str, sides: list[Side], work: float) -> None:
    measure.alternate(sides, ROUNDS.value)
    cells = [
      f"{1e3 * s.median:.1f} ms, {work / s.median:.0f} GF/s" for s in sides
    ]
    ratio = measure.ratio(*sides) if len(sides) == 2 else None
    told = f"{ratio:.2f}" if ratio else ""
    table.add_row(stage, piece, *cells, *[""] * (2 - len(sides)), told)
    seconds = {s.name: s.median for s in sides}
    result.append({"stage": stage, "piece": piece, **seconds, "ratio": ratio})

  with torch.no_grad():
    for size, channels in STAGES:
      stage = f"{size}x{size}x{channels}"
      x = rng.normal(size=(BATCH, size, size, channels)).astype(np.float32)
      kernel = rng.normal(size=(3, 3, channels, channels)).astype(np.float32)
      work = 2e-9 * x.size * 9 * channels
      for piece in PIECES:
        sides = [
          Side("XLA", ours(piece, x, kernel)),
          Side("PyTorch", theirs(piece, x, kernel), lambda result: None),
        ]
        row(stage, piece, sides, work)
      patches = rng.normal(size=(9 * channels, x.size // channels))
      product = functools.partial(
        jax.jit(jnp.matmul),
        patches.astype(np.float32),
        x.reshape(-1, channels),
      )
      row(
        f"{size}x{size}x{channels}",
        "as a product",
        [Side("XLA", product)],
        work,
      )
  Console().print(table)
  files.write_json(pathlib.Path(WORKDIR.value) / "convolutions.json", result)


if __name__ == "__main__":
  flags.FLAGS(sys.argv)
  main()
