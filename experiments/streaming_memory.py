"""How much memory a data set takes that is streamed, and how fast it comes.

    python experiments/streaming_memory.py --megabytes=1024 --limit=128

Writes random images of so many megabytes as .npy files into a temporary folder
and reads them in two processes: streamed, since they are more than `limit`, and
held in memory. Each makes the splits and reads every training batch of one
epoch; nothing is trained. The memory is the kernel's VmHWM of the process
(Linux), the most that was ever resident; what the imports took stands beside
it. The files are warm in the page cache, so that the disk is not measured.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

MEGABYTES = flags.DEFINE_integer("megabytes", 1024, "size of the set")
LIMIT = flags.DEFINE_integer("limit", 128, "config.data.resident_mb")
SIDE = flags.DEFINE_integer("side", 64, "of the images, in pixels")
BATCH = flags.DEFINE_integer("batch", 128, "images a step")
FOLDER = flags.DEFINE_string("folder", "", "of the set, for a child process")


def write(folder: pathlib.Path) -> None:
  """A training split of the size that was asked for, and a small test split."""
  rng = np.random.default_rng(0)
  shape = (SIDE.value, SIDE.value, 3)
  size = (MEGABYTES.value << 20) // int(np.prod(shape))
  for split, n in (("train", size), ("test", 100)):
    image = np.lib.format.open_memmap(
      folder / f"{split}_images.npy", "w+", np.uint8, (n, *shape)
    )
    for first in range(0, n, 1000):
      part = image[first : first + 1000]
      part[:] = rng.integers(0, 256, part.shape, np.uint8)
    np.save(folder / f"{split}_labels.npy", np.arange(n) % 10)


def peak() -> float:
  """The most memory that this process ever had resident, in megabytes."""
  status = pathlib.Path("/proc/self/status").read_text()
  (line,) = [x for x in status.splitlines() if x.startswith("VmHWM")]
  return int(line.split()[1]) / 1024


def measure() -> dict[str, float]:
  """One epoch in this process."""
  import grain  # noqa: F401  (a part of what the imports take)

  from amtml_jax.data import reader, splits, streamed

  before, started = peak(), time.perf_counter()

  def load(split):
    return streamed.opened(
      "npy", split, folder=FOLDER.value, resident_mb=LIMIT.value
    )

  data = splits.make(load).train
  ready = time.perf_counter()
  steps = len(data.label) // BATCH.value
  seen = 0
  with reader.batches(
    data, seed=0, batch=BATCH.value, first=0, last=steps
  ) as batches:
    for _, image, _, _ in batches:
      seen += len(image)
  return {
    "resident": data.resident,
    "imports": before,
    "peak": peak(),
    "start": ready - started,
    "rate": seen / (time.perf_counter() - ready),
  }


def child(folder: str, limit: int) -> dict[str, float]:
  """What `measure` says in a process of its own."""
  command = [sys.executable, __file__, f"--folder={folder}"]
  command += [f"--limit={limit}", f"--batch={BATCH.value}"]
  # A cache of its own: the pass over the set is a part of what is measured.
  environment = {**os.environ, "XDG_CACHE_HOME": folder, "JAX_PLATFORMS": "cpu"}
  done = subprocess.run(
    command, env=environment, check=True, stdout=subprocess.PIPE
  )
  return json.loads(done.stdout)


def main() -> None:
  """Prints the table."""
  if FOLDER.value:
    print(json.dumps(measure()))
    return
  with tempfile.TemporaryDirectory() as folder:
    write(pathlib.Path(folder))
    lines = [child(folder, limit) for limit in (LIMIT.value, 1 << 40)]
  table = Table(
    "", "peak MB", "of it imports", "seconds to start", "images a second"
  )
  for line in lines:
    table.add_row(
      "in memory" if line["resident"] else "streamed",
      *(f"{line[key]:,.0f}" for key in ("peak", "imports")),
      f"{line['start']:.1f}",
      f"{line['rate']:,.0f}",
    )
  Console().print(table)


if __name__ == "__main__":
  flags.FLAGS(sys.argv)
  main()
