"""The same objective in idiomatic PyTorch, written from the paper.

What the package is measured against (`experiments/benchmark.py`), and what its
numbers are compared with (`tests/torch_peer_test.py`): networks with the
package's weights, the latent adapter, cross-entropy, KD, angle, hints, RKD's
distance and AT's attention, and SGD. The angle is the direct N×N×C form, as
RKD's own code has it. Needs `pip install -e '.[torch]'`.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (what everybody calls it)
from torch import nn

from amtml_jax.experiments import torch_networks
from amtml_jax.losses import hint as hints
from amtml_jax.objective import Objective

TERMS = ("cross_entropy", "kd", "angle", "distance", "hint", "attention")


def integrated(
  theta: torch.Tensor,
  v: torch.Tensor,
  last: torch.Tensor,
  teacher_logits: torch.Tensor,
  temperature: float,
) -> torch.Tensor:
  """Log Σ_t w_ti softmax(z_ti / τ): the adapter's mixture of the teachers.

  Args:
    theta: `(m, d)`.
    v: `(d,)`.
    last: `(N, d, H, W)`, the student's last map.
    teacher_logits: `(m, N, C)`.
    temperature: τ.
  """
  beta = last.amax((2, 3))
  log_weights = F.log_softmax(beta @ (theta * v).T, dim=1)
  log_probs = F.log_softmax(teacher_logits / temperature, dim=2)
  return torch.logsumexp(log_weights.T[:, :, None] + log_probs, dim=0)


def kd(
  logits: torch.Tensor, target: torch.Tensor, temperature: float
) -> torch.Tensor:
  """τ² KL(target ‖ student), averaged over rows; `target` is a logarithm."""
  student = F.log_softmax(logits / temperature, dim=1)
  divergence = F.kl_div(student, target, reduction="batchmean", log_target=True)
  return temperature**2 * divergence


def angle(student: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
  """RKD-A of two `(N, C)`: Huber between the cosines of all triples."""

  def cosines(rows: torch.Tensor) -> torch.Tensor:
    unit = F.normalize(rows.unsqueeze(0) - rows.unsqueeze(1), dim=2)
    return torch.bmm(unit, unit.transpose(1, 2))

  with torch.no_grad():
    wanted = cosines(target)
  return F.smooth_l1_loss(cosines(student), wanted)


def distance(student: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
  """RKD-D of two `(N, C)`: Huber between relative distances of all pairs."""

  def relative(rows: torch.Tensor) -> torch.Tensor:
    exact = "donot_use_mm_for_euclid_dist"
    lengths = torch.cdist(rows, rows, compute_mode=exact)
    return lengths / lengths[lengths > 0].mean()

  with torch.no_grad():
    wanted = relative(target)
  return F.smooth_l1_loss(relative(student), wanted)


def attention(
  student: list[torch.Tensor], teacher: list[torch.Tensor]
) -> torch.Tensor:
  """AT over stages of equal depth order, NCHW maps."""

  def seen(feature_map: torch.Tensor) -> torch.Tensor:
    return F.normalize(feature_map.pow(2).mean(1).flatten(1), dim=1)

  pairs = zip(student, teacher, strict=False)  # the shorter network ends it
  sized = [common_size(s, t) for s, t in pairs]
  return sum((seen(s) - seen(t)).pow(2).mean() for s, t in sized)


def hint(
  regressors: nn.ModuleList,
  guided: list[torch.Tensor],
  wanted: list[torch.Tensor],
) -> torch.Tensor:
  """Σ_t mean (u_t - F_t(v_t))², the larger map pooled to the smaller."""
  total = 0.0
  for regressor, own, last in zip(regressors, guided, wanted, strict=True):
    own, last = common_size(own, last)
    total = total + F.mse_loss(regressor(own), last)
  return total


def common_size(
  a: torch.Tensor, b: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
  """Two NCHW maps at the smaller height and width."""
  size = [min(m, n) for m, n in zip(a.shape[2:], b.shape[2:], strict=True)]
  return tuple(
    m if list(m.shape[2:]) == size else F.adaptive_avg_pool2d(m, size)
    for m in (a, b)
  )


class Peer(nn.Module):
  """One objective of ours, with its parameters, in PyTorch."""

  def __init__(
    self, ours: Objective, params: Any, batch_stats: Any, frozen: Any
  ):
    super().__init__()
    own = {"params": params["student"], "batch_stats": batch_stats}
    self.student = torch_networks.network(ours.student, own)
    self.teachers = nn.ModuleList(
      torch_networks.network(teacher, variables)
      for teacher, variables in zip(ours.teachers, frozen, strict=True)
    )
    self.teachers.requires_grad_(False)
    adapter = torch_networks.state_dict(params["adapter"])
    self.adapter = nn.ParameterDict(adapter)
    self.regressors, self.groups, self.best = nn.ModuleList(), (), 0
    self.temperature, self.weights = ours.temperature, {}
    for name, weight, term in ours.terms:
      if name not in TERMS:
        raise ValueError(f"the term {name} has no peer in PyTorch")
      self.weights[name] = weight
      self.best = term.ranking[0] if term.ranking else 0
      if name == "hint":
        stages = len(self.student.stages)
        ranking = term.ranking or tuple(range(len(frozen)))
        self.groups = hints.groups(term.mapping, ranking, stages, term.seed)
        self._regress(params["terms"]["hint"])

  def _regress(self, params: Any) -> None:
    for t in range(len(self.teachers)):
      kernel = torch_networks.state_dict(params[f"regressor_{t}"])["weight"]
      out, channels = kernel.shape[:2]
      made = nn.Conv2d(channels, out, 1, bias=False, dtype=kernel.dtype)
      made.weight.data.copy_(kernel)
      self.regressors.append(made)

  def train(self, mode: bool = True) -> Peer:
    """The student's mode; teachers always run with their statistics."""
    super().train(mode)
    self.teachers.eval()
    return self

  def taught(self, image: torch.Tensor) -> list[Any]:
    """Every teacher's logits and stages."""
    with torch.no_grad():
      return [teacher(image) for teacher in self.teachers]

  def forward(
    self, image: torch.Tensor, label: torch.Tensor, taught: list[Any]
  ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss and its terms, `taught` being the teachers' outputs."""
    logits, stages = self.student(image)
    with torch.autocast(image.device.type, enabled=False):
      # Losses in at least float32, whatever the networks use.
      logits, stages, taught = _promoted((logits, stages, taught))
      terms = self.terms(logits, stages, label, taught)
    return sum(self.weights[n] * value for n, value in terms.items()), terms

  def terms(
    self,
    logits: torch.Tensor,
    stages: list[torch.Tensor],
    label: torch.Tensor,
    taught: list[Any],
  ) -> dict[str, torch.Tensor]:
    """Every term of the objective that has a weight."""
    found, tau = {"cross_entropy": F.cross_entropy(logits, label)}, 1.0
    if taught:
      tau = self.temperature
      each = torch.stack([own for own, _ in taught])
      theta, v = self.adapter["theta"], self.adapter["v"]
      target = integrated(theta, v, stages[-1], each, tau)
      student, wanted = F.softmax(logits / tau, dim=1), target.detach().exp()
    if "kd" in self.weights:
      found["kd"] = kd(logits, target, tau)
    if "angle" in self.weights:
      found["angle"] = angle(student, wanted)
    if "distance" in self.weights:
      found["distance"] = distance(student, wanted)
    if "hint" in self.weights:
      guided = [stages[group] for group in self.groups]
      last = [maps[-1] for _, maps in taught]
      found["hint"] = hint(self.regressors, guided, last)
    if "attention" in self.weights:
      found["attention"] = attention(stages, taught[self.best][1])
    return {name: found[name] for name in self.weights}

  def optimizer(
    self, rate: float, adapter_rate: float, decay: float
  ) -> torch.optim.SGD:
    """SGD with momentum; decay on kernels alone, the adapter's own rate."""
    named = [*self.student.parameters(), *self.regressors.parameters()]
    kernels = [p for p in named if p.ndim > 1]
    groups = [
      {"params": kernels, "weight_decay": decay},
      {"params": [p for p in named if p.ndim == 1]},
      {"params": list(self.adapter.parameters()), "lr": adapter_rate},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.SGD(groups, lr=rate, momentum=0.9)


def _promoted(tree: Any) -> Any:
  if isinstance(tree, tuple | list):
    return [_promoted(inner) for inner in tree]
  return tree.float() if tree.dtype in (torch.bfloat16, torch.half) else tree


class Side:
  """A peer ready to step: eager, channels_last, or compiled for a GPU."""

  def __init__(
    self,
    peer: Peer,
    rates: tuple[float, float, float],
    *,
    device: str = "cpu",
    channels_last: bool = False,
    compiled: bool = False,
  ):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    self.peer = peer.to(device, memory_format=layout).train()
    self._device, self._layout, self._compiled = device, layout, compiled
    self._optimizer = peer.optimizer(*rates)
    self._taught, self._loss = self.peer.taught, self.peer
    if compiled:
      self._taught = torch.compile(self.peer.taught)
      self._loss = torch.compile(self.peer)

  def batch(
    self, image: np.ndarray, label: np.ndarray
  ) -> tuple[torch.Tensor, torch.Tensor]:
    """NHWC bytes and labels, where and as the peer wants them."""
    image = torch.from_numpy(np.array(image)).permute(0, 3, 1, 2)
    image = image.to(self._device).contiguous(memory_format=self._layout)
    label = torch.from_numpy(np.array(label)).long()
    return image, label.to(self._device)

  def _autocast(self) -> Any:
    if not (self._compiled and self._device == "cuda"):
      return contextlib.nullcontext()
    return torch.autocast(self._device, dtype=torch.bfloat16)

  def taught(self, image: torch.Tensor) -> list[Any]:
    """The teachers' forward passes."""
    with self._autocast():
      return self._taught(image)

  def update(
    self, image: torch.Tensor, label: torch.Tensor, taught: list[Any]
  ) -> torch.Tensor:
    """One SGD step with the teachers' outputs at hand; the loss."""
    self._optimizer.zero_grad(set_to_none=True)
    with self._autocast():
      loss, _ = self._loss(image, label, taught)
    loss.backward()
    self._optimizer.step()
    return loss.detach()

  def step(self, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Teachers and update."""
    return self.update(image, label, self.taught(image))
