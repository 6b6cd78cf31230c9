"""`amtml bench` in turn with the same objective in PyTorch.

    pip install -e '.[torch]'
    python experiments/benchmark.py --config=cifar --workdir=runs/bench

takes the flags of `amtml bench` and `--peers=eager,channels_last,compiled`.
Both sides have the same weights, images and threads, and every piece is timed
in alternating turns: believe the ratios. PyTorch's step is handed a batch that
is augmented already, and counts no metrics; ours draws, augments and counts in
its step. `compiled` is channels_last with `torch.compile`, under bf16 autocast
on a GPU.
"""

import functools
import sys
from collections.abc import Sequence

import torch

from amtml_jax import bench, cli, config, determinism
from amtml_jax.checks import check
from amtml_jax.errors import UserError
from amtml_jax.experiments import torch_peer
from amtml_jax.measure import Side
from amtml_jax.pieces import TERMS, Pieces
from amtml_jax.progress import View

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PEERS = ("eager", "channels_last", "compiled")


def wait(result: object) -> None:
  """Until the GPU has done what it was told."""
  del result
  if DEVICE == "cuda":
    torch.cuda.synchronize()


def peer(made: Pieces, who: str) -> torch_peer.Side:
  """One way to run the peer, with our weights."""
  run, goal = made.run, made.plan.stages[0].objective
  state, ensemble = made.state, made.plan.ensemble
  frozen = ensemble.variables if ensemble else ()
  rates = (run.optimizer.learning_rate, run.adapter.learning_rate)
  return torch_peer.Side(
    torch_peer.Peer(goal, state.params, state.batch_stats, frozen),
    (*rates, run.optimizer.weight_decay),
    device=DEVICE,
    channels_last=who != "eager",
    compiled=who == "compiled",
  )


def term(made: Pieces, name: str) -> Side | None:
  """A term alone, forward and backward; eager, as its code is written."""
  student, target, (teachers, _, _) = made.term_inputs
  tau = made.run.temperature

  def tensor(x, gradient=False):
    x = torch.from_numpy(x)
    x = x.permute(0, 3, 1, 2) if x.ndim == 4 else x
    return x.to(DEVICE).contiguous().requires_grad_(gradient)

  logits, target = tensor(student.logits, True), tensor(target, True)
  maps = [tensor(x, True) for x in student.stages]
  taught = [[tensor(x) for x in t.stages] for t in teachers]
  guided = [maps[i % len(maps)] for i in range(len(taught))]
  last = [stages[-1] for stages in taught]
  regressors = torch.nn.ModuleList(
    torch.nn.Conv2d(a.shape[1], b.shape[1], 1, bias=False)
    for a, b in zip(guided, last, strict=True)
  ).to(DEVICE)

  def compare(how):
    student = torch.softmax(logits / tau, dim=1)
    return how(student, target.detach().exp())

  losses = {
    "kd": lambda: torch_peer.kd(logits, target, tau),
    "angle": lambda: compare(torch_peer.angle),
    "distance": lambda: compare(torch_peer.distance),
    "hint": lambda: torch_peer.hint(regressors, guided, last),
    "attention": lambda: torch_peer.attention(maps, taught[0]),
  }
  leaves = [logits, target, *maps, *regressors.parameters()]

  def call():
    for leaf in leaves:
      leaf.grad = None
    losses[name]().backward()

  return Side("torch eager", call, wait)


def rivals(peers: Sequence[str], made: Pieces, name: str) -> list[Side]:
  """The peers of one of our pieces."""
  if name in TERMS:
    return [term(made, name)] if "eager" in peers else []
  sides = []
  for who in peers:
    side = peer(made, who)
    image, label = side.batch(*made.batch)
    call = {
      "teachers": functools.partial(side.taught, image),
      "step": functools.partial(side.step, image, label),
    }
    if name in ("student", "kept"):
      call[name] = functools.partial(
        side.update, image, label, side.taught(image)
      )
    sides.append(Side(f"torch {who}", call[name], wait))
  return sides


def main() -> None:
  """Measures and prints."""
  values = cli.parse(sys.argv, **bench.FLAGS, peers="eager,channels_last")
  check(
    values.config is not None, "--config is missing, such as --config=cifar"
  )
  peers = tuple(filter(None, values.peers.split(",")))
  for who in peers:
    check(who in PEERS, f"--peers={who} is none of {', '.join(PEERS)}")
  if config.resolve(values.config).deterministic:
    determinism.ask()  # as `amtml` does
  bench.main(values, View(), functools.partial(rivals, peers))


if __name__ == "__main__":
  try:
    main()
  except UserError as error:
    sys.exit(f"benchmark: {error}")
