"""Seconds from the command to the end of its first step, cold and warm.

    python experiments/start.py --config=cifar --rounds=3

`amtml distill` of the config's networks on random images, under teachers of
random weights that lie in an ensemble's folder: a process of its own each time,
ended after its first step. Cold is an empty compilation cache, warm the one
that the cold start filled. Prints every start's seconds.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

CONFIG = """
from amtml_jax import loading

def get_config():
  c = loading.load_config({config!r})
  c.data.source, c.data.folder = "npz", {folder!r} + "/data.npz"
  c.ensemble = {folder!r} + "/ensemble"
  return c
"""


def prepare(folder: pathlib.Path, config: str) -> None:
  """Random images, their ensemble, and the config of both."""
  from amtml_jax import commands, ensemble, loading, synthetic
  from amtml_jax import config as configs

  settings = loading.load_config(config)
  run = configs.resolve(settings)
  rng = np.random.default_rng(0)
  arrays = {}
  for split, rows in (("train", 5000), ("test", 1000)):
    image = rng.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8)
    arrays |= {
      f"{split}_images": image,
      f"{split}_labels": np.arange(rows) % 10,
    }
  np.savez(folder / "data.npz", **arrays)
  (folder / "mine.py").write_text(
    CONFIG.format(config=config, folder=str(folder))
  )
  mine = configs.resolve(loading.load_config(str(folder / "mine.py")))
  data = commands.load(mine.data)
  runs = [configs.teacher(settings, spec) for spec in run.teachers]
  shapes = ensemble.untrained(runs, data.train, data.mean, data.std)
  weights = synthetic.weights(shapes.variables)
  ensemble.save(folder / "ensemble", shapes.teachers, weights)


def child(args: list[str]) -> None:
  """The command, which ends with its first step."""
  import jax

  from amtml_jax import cli, train

  def take(self, first, count, parts, asked):
    jax.block_until_ready(parts)
    os._exit(0)

  train.Training._take = take
  sys.exit(cli.main(["amtml", "distill", *args]))


def main() -> None:
  """Starts it cold and warm, in turn."""
  flags = dict(a.lstrip("-").split("=", 1) for a in sys.argv[1:])
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    prepare(folder, flags.get("config", "cifar"))
    for number in range(int(flags.get("rounds", 3))):
      cache = str(folder / f"cache{number}")
      for which in ("cold", "warm"):
        start = time.monotonic()
        args = f"--config={folder}/mine.py", f"--workdir={folder}/run"
        subprocess.run(
          [sys.executable, __file__, "child", *args],
          env={**os.environ, "JAX_COMPILATION_CACHE_DIR": cache},
          stdout=subprocess.DEVNULL,
          check=True,
        )
        print(f"{which}  {time.monotonic() - start:.1f} s", flush=True)


if __name__ == "__main__":
  if sys.argv[1:2] == ["child"]:
    child(sys.argv[2:])
  main()
