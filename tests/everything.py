"""52 steps with every term, batch statistics and dropout in double precision.

    python -m tests.everything FOLDER ENSEMBLE LIFT,... [HOST:PORT COUNT INDEX]

trains in a process of its own, or in one of several that meet at HOST:PORT, and
writes what it ends with to FOLDER/LIFT-INDEX.npz.
"""

import pathlib
import sys

import numpy as np

from tests.settings import blobs

EVERYTHING = dict(
  student="tests.tinynet",
  dtype="float64",
  batch_size=24,
  terms__angle=1.0,
  terms__distance=1.0,
  terms__attention=1.0,
  terms__hint=1.0,
  terms__mixture=1.0,
  adapter__l2=0.1,
  epochs=13,
  evaluate_every=13,
  checkpoint_every=13,
  data__views=3,
)
STEPS = 52


def train(teachers, folder, *, keep=False, **changes):
  """Leaves of the parameters and the validation after training.

  In double precision the teachers' outputs are kept as they are, so that
  keeping them changes nothing.
  """
  import jax

  from amtml_jax import commands, config, hear, trees
  from amtml_jax.plan import Plan
  from amtml_jax.progress import Line, View
  from amtml_jax.train import Training

  run = config.resolve(blobs(**EVERYTHING, **changes))
  plan = Plan(run, commands.load(run.data), teachers)
  if keep:
    plan.taught = hear.hear(plan, folder / "outputs", View())
  go = Training(plan, folder, View())
  go.run(Line(View(), "student", plan.steps, 0))
  assert go.at.step == STEPS
  # What Orbax wrote, every process reads.
  assert go.saved.restore(STEPS, plan.like(plan.stages[0])) is not None
  leaves = jax.tree.leaves(trees.to_host(go.state.params))
  return leaves, go.at.validation["student"]["cross_entropy"]


def main(folder, teachers, lifts, *cluster):
  import jax

  from amtml_jax import ensemble, fake_devices, processes

  fake_devices.make_room()
  processes.start(*cluster)
  for lift in lifts.split(","):
    leaves, loss = train(
      ensemble.restore(pathlib.Path(teachers), ()),
      pathlib.Path(folder) / lift,
      keep=True,
      parallel=lift,
    )
    name = f"{lift}-{jax.process_index()}.npz"
    np.savez(pathlib.Path(folder) / name, *leaves, loss=loss)
    print(lift, "done", len(jax.devices()), flush=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
