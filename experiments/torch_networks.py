"""The package's CIFAR ResNets in PyTorch, with its weights.

Modules carry the names that flax gave the parameters, so that a tree of
variables is a state dict but for the order of the kernels' axes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (what everybody calls it)
from flax.traverse_util import flatten_dict
from torch import nn

from amtml_jax.models import resnet
from amtml_jax.network import Network

NAMES = {
  "kernel": "weight",
  "scale": "weight",
  "mean": "running_mean",
  "var": "running_var",
}


class ConvNorm(nn.Module):
  """A 3×3 convolution without bias, then batch norm."""

  def __init__(self, channels: int, width: int, stride: int = 1):
    super().__init__()
    self.conv = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
    # PyTorch's momentum is the share of the new, flax's that of the old. (Its
    # running variance is the unbiased one; no loss of a training step sees it.)
    self.norm = nn.BatchNorm2d(width, eps=1e-5, momentum=0.1)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """(N, channels, H, W) -> (N, width, ⌈H/stride⌉, ⌈W/stride⌉)."""
    return self.norm(self.conv(x))


class Block(nn.Module):
  """relu(option-A shortcut of x + two convolutions of x)."""

  def __init__(self, channels: int, width: int, stride: int):
    super().__init__()
    self.first = ConvNorm(channels, width, stride)
    self.second = ConvNorm(width, width)
    self.stride, extra = stride, width - channels
    self.pad = (0, 0, 0, 0, extra // 2, extra - extra // 2)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """(N, channels, H, W) -> (N, width, ⌈H/stride⌉, ⌈W/stride⌉)."""
    y = self.second(F.relu(self.first(x)))
    if self.stride > 1 or any(self.pad):
      x = F.pad(x[:, :, :: self.stride, :: self.stride], self.pad)
    return F.relu(x + y)


class ResNet(nn.Module):
  """A network of `amtml_jax.models.resnet`, of images as bytes."""

  def __init__(self, network: Network, channels: int):
    super().__init__()
    model = network.model
    if not isinstance(model, resnet.Model):
      raise ValueError(f"only ResNets have a peer here, not {network.variant}")
    depth, widths = (model.depth - 2) // 6, model.widths
    self.stem = ConvNorm(channels, widths[0])
    self.stages, before = [], widths[0]
    for stage, width in enumerate(widths, start=1):
      names = [f"stage{stage}_block{b}" for b in range(1, depth + 1)]
      for name in names:
        stride = 2 if stage > 1 and name == names[0] else 1
        self.add_module(name, Block(before, width, stride))
        before = width
      self.stages.append(names)
    self.head = nn.Linear(widths[-1], model.num_classes)
    for name in ("mean", "std"):
      value = torch.tensor(getattr(network, name), dtype=torch.float64)
      buffer = value.reshape(1, -1, 1, 1)
      self.register_buffer(name, buffer, persistent=False)

  def forward(
    self, image: torch.Tensor
  ) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """(N, channels, H, W) bytes -> logits and the map of every stage."""
    x = (image.to(self.mean.dtype) / 255 - self.mean) / self.std
    x, stages = F.relu(self.stem(x)), []
    for names in self.stages:
      for name in names:
        x = self.get_submodule(name)(x)
      stages.append(x)
    return self.head(x.mean((2, 3))), stages


def state_dict(tree: Any) -> dict[str, torch.Tensor]:
  """Variables, parameters or gradients of flax by PyTorch's names and axes."""
  found = {}
  for path, leaf in flatten_dict(tree).items():
    value = np.array(leaf)  # a copy: torch wants memory that it may write to
    if path[-1] == "kernel":  # HWIO -> OIHW, IO -> OI
      value = value.transpose((3, 2, 0, 1) if value.ndim == 4 else (1, 0))
    name = ".".join((*path[:-1], NAMES.get(path[-1], path[-1])))
    found[name] = torch.from_numpy(np.ascontiguousarray(value))
  return found


def network(ours: Network, variables: Any) -> ResNet:
  """The peer of a network, with its variables, in their dtype."""
  kernel = variables["params"]["stem"]["conv"]["kernel"]
  state = state_dict(variables["params"]) | state_dict(variables["batch_stats"])
  # Before the weights come: loading would round them to the module's dtype.
  made = ResNet(ours, kernel.shape[2]).to(state["stem.conv.weight"].dtype)
  missing, unexpected = made.load_state_dict(state, strict=False)
  left = [n for n in missing if not n.endswith("num_batches_tracked")]
  if left or unexpected:
    raise ValueError(f"{ours.variant}: {left} and {unexpected} do not fit")
  return made
