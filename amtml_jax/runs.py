"""What may stand in a config, and what it comes to: one run, checked."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from ml_collections import ConfigDict

from amtml_jax import plugins
from amtml_jax.checks import LARGEST, Range
from amtml_jax.methods import METHODS

# What may stand under a key, where its default does not tell. Every other
# value is of its default's type, and no number is negative. The upper bounds
# are far above any use: a slip of the finger must not fill the memory.
NUMBERS = {
  int: Annotated[int, Range(0, LARGEST)],
  float: Annotated[float, Range(0)],
}
COUNT = Annotated[int, Range(1, LARGEST)]
EPOCHS = Annotated[int, Range(1, 1_000_000)]
POSITIVE = Annotated[float, Range(0, above=True)]
MOVING = Annotated[float, Range(0, 0.99999)]
SHARE = Annotated[float, Range(0, 1)]
INSIDE = Annotated[float, Range(0, 1, above=True, below=True)]
OPTIMIZER = {
  "decay": SHARE,
  "ema": MOVING,
  "learning_rate": POSITIVE,
  "milestones": tuple[INSIDE, ...],
  "momentum": MOVING,
  "schedule": Literal["step", "cosine", "constant"],
  "warmup_epochs": Annotated[int, Range(0, 1_000_000)],
}
KINDS = {
  "adapter.evidence_temperature": POSITIVE,
  "adapter.hidden": COUNT,
  "adapter.init_scale": POSITIVE,
  "adapter.learning_rate": POSITIVE,
  "adapter.pooling": Literal["max", "average"],
  "adapter.schedule": Literal["joint", "two_stage"],
  "angle.delta": POSITIVE,
  "batch_size": COUNT,
  "checkpoint_every": COUNT,
  "data.image_size": Annotated[int, Range(0, 8192)],
  "data.pad": Annotated[int, Range(0, 1024)],
  "data.views": Annotated[int, Range(0, 10_000)],
  "data.validation": Annotated[float, Range(0, 0.5, above=True)],
  "distance.delta": POSITIVE,
  "dtype": Literal["float32", "bfloat16", "float64"],
  "epochs": EPOCHS,
  "evaluate_every": COUNT,
  "full_disk": Literal["stop", "go_on"],
  "hint.mapping": str | tuple[int | str, ...],
  "hint.teacher_stage": int | str,
  "kd.ratio": SHARE,
  "kd.temperature": POSITIVE,
  "keep": COUNT,
  "peers": Annotated[int, Range(1, 64)] | None,
  "seeds": Annotated[int, Range(1, 1024)],
  "method": Literal[tuple(METHODS)],
  "parallel": Literal["pmap", "jit"],
  "teacher.batch_size": COUNT,
  "teacher.epochs": EPOCHS,
  "teachers": tuple[str, ...],
  **{f"optimizer.{name}": kind for name, kind in OPTIMIZER.items()},
  **{f"teacher.optimizer.{name}": kind for name, kind in OPTIMIZER.items()},
}
# The two-stage schedule's first stage, as a share of the epochs.
FIRST_STAGE = 0.4


@dataclasses.dataclass(frozen=True)
class Term:
  """One named, weighted term and its own settings."""

  label: str
  plugin: str
  weight: float
  settings: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Adapter:
  """Who decides which teacher to listen to."""

  name: str
  learning_rate: float
  schedule: str
  l2: float
  settings: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """As `defaults.optimizer` documents."""

  learning_rate: float
  momentum: float
  nesterov: bool
  weight_decay: float
  schedule: str
  milestones: tuple[float, ...]
  decay: float
  warmup_epochs: int
  clip_norm: float
  ema: float
  decay_all: bool


@dataclasses.dataclass(frozen=True)
class Data:
  """As `defaults.defaults` documents under `data`."""

  source: str
  name: str
  folder: str
  image_size: int
  validation: float
  split_seed: int
  labels_per_class: int
  train_size: int
  pad: int
  flip: bool
  resident_mb: int
  views: int
  view_seed: int
  outputs: str


@dataclasses.dataclass(frozen=True)
class Phase:
  """A stretch of training with one objective and one optimizer."""

  first: int  # epoch
  last: int  # epoch, exclusive
  terms: tuple[Term, ...]
  parts: tuple[str, ...]  # of the parameters that it trains


@dataclasses.dataclass(frozen=True)
class Run:
  """One training run, checked; plain values, no ConfigDict."""

  seed: int
  seeds: int
  peers: int
  method: str
  student: str
  teachers: tuple[str, ...]
  ensemble: str
  epochs: int
  batch_size: int
  dtype: str
  student_init_std: float
  temperature: float
  terms: tuple[Term, ...]
  adapter: Adapter
  optimizer: Optimizer
  data: Data
  evaluate_every: int
  checkpoint_every: int
  checkpoint_steps: int
  checkpoint_minutes: float
  keep: int
  full_disk: str
  deterministic: bool
  parallel: str
  devices: int
  steps_per_dispatch: int

  @property
  def needs_teachers(self) -> bool:
    """Whether any term looks at a teacher."""
    return any(
      plugins.find("losses", t.plugin).needs_teachers for t in self.terms
    )

  @property
  def students(self) -> tuple[int, ...]:
    """The seed of every student that trains in this run."""
    if self.peers > 1:
      # Far apart: a cohort of the next seed shares none of them.
      return tuple((self.seed + (k << 20)) % 2**31 for k in range(self.peers))
    return tuple(range(self.seed, self.seed + self.seeds))

  def phases(self) -> tuple[Phase, ...]:
    """One phase, or two: then the adapter and the regressors are frozen."""
    everything = ("student", "adapter", "terms")
    if self.adapter.schedule == "joint" or not self.needs_teachers:
      return (Phase(0, self.epochs, self.terms, everything),)
    first = max(1, round(FIRST_STAGE * self.epochs))
    later = tuple(t for t in self.terms if t.plugin != "hint")
    return (
      Phase(0, first, self.terms, everything),
      Phase(first, self.epochs, later, ("student",)),
    )


def kinds(like: ConfigDict, above: str = "") -> dict[Any, Any]:
  """The kind of every value, by the defaults and `KINDS`; see checks.py."""
  found: dict[Any, Any] = {}
  for name in like:
    key, kind = f"{above}{name}", like.get_type(name)
    if isinstance(like[name], ConfigDict):
      found[name] = kinds(like[name], f"{key}.")
      continue
    kind = KINDS.get(key, NUMBERS.get(kind, kind))
    found[name] = kind | None if like[name] is None else kind
  return found
