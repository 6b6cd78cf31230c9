"""Every cross-field check, and the one place that reads a ConfigDict."""

from __future__ import annotations

import dataclasses
import math
import zlib
from typing import Any

from ml_collections import ConfigDict

from amtml_jax import network, plugins
from amtml_jax.checks import at, check, known, number, whole
from amtml_jax.defaults import defaults, optimizer
from amtml_jax.methods import METHODS

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
  method: str
  student: str
  teachers: tuple[str, ...]
  ensemble: str
  epochs: int
  batch_size: int
  dtype: str
  temperature: float
  terms: tuple[Term, ...]
  adapter: Adapter
  optimizer: Optimizer
  data: Data
  evaluate_every: int
  checkpoint_every: int
  keep: int
  parallel: str
  devices: int
  steps_per_dispatch: int

  @property
  def needs_teachers(self) -> bool:
    """Whether any term looks at a teacher."""
    return any(
      plugins.find("losses", t.plugin).needs_teachers for t in self.terms
    )

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


def _optimizer(config: ConfigDict, key: str) -> Optimizer:
  values = at(config, key)
  _check_keys(values, optimizer(), key)
  number(config, f"{key}.learning_rate", 0.0, math.inf, open_low=True)
  for name in ("weight_decay", "clip_norm"):
    number(config, f"{key}.{name}", 0.0, math.inf)
  for name in ("momentum", "ema"):
    number(config, f"{key}.{name}", 0.0, 0.99999)
  number(config, f"{key}.decay", 0.0, 1.0)
  whole(config, f"{key}.warmup_epochs", 0)
  known(values.schedule, ("step", "cosine", "constant"), f"{key}.schedule")
  milestones = tuple(values.milestones)
  check(
    all(isinstance(m, int | float) and 0 < m < 1 for m in milestones),
    f"config.{key}.milestones={milestones!r} must be shares of the epochs, "
    "between 0 and 1",
  )
  return Optimizer(**{**values.to_dict(), "milestones": milestones})


def _terms(config: ConfigDict, method: dict[str, Any]) -> tuple[Term, ...]:
  ratio = number(config, "kd.ratio", 0.0, 1.0)
  symbols = {"ratio": ratio, "rest": 1.0 - ratio}
  built = []
  for label in config.terms:
    weight = config.terms[label]
    if weight is None:
      preset = method["terms"].get(label, 0.0)
      weight = symbols.get(preset, preset)
    else:
      weight = number(config, f"terms.{label}", 0.0, math.inf)
    if weight:
      settings = dict(config.get(label, {}))
      plugin = settings.pop("plugin", label)
      term = plugins.find("losses", plugin)
      settings = _fields(term, settings)
      if plugin == "hint":
        settings["mapping"] = _mapping(settings["mapping"])
      built.append(Term(label, plugin, float(weight), settings))
  check(bool(built), "every weight in config.terms is 0: nothing to learn")
  return tuple(built)


def _mapping(mapping: str | tuple) -> str | tuple[int | str, ...]:
  """A strategy's name, or the stages, as a tuple or between commas."""
  if not isinstance(mapping, str):
    return tuple(mapping)
  if mapping in ("better_high", "better_low", "random"):
    return mapping
  parts = [p.strip() for p in mapping.split(",")]
  return tuple(int(p) if p.isdigit() else p for p in parts)


def _fields(plugin: type, settings: dict[str, Any]) -> dict[str, Any]:
  """Those settings that the plug-in has a field for."""
  own = {f.name for f in dataclasses.fields(plugin)}
  return {k: v for k, v in settings.items() if k in own}


def _check_keys(values: ConfigDict, known: ConfigDict, prefix: str) -> None:
  for key in known:
    check(key in values, f"config.{prefix}.{key} is missing")


def _networks(config: ConfigDict) -> tuple[str, ...]:
  teachers = tuple(config.teachers)
  names = [network.split_name(t)[0] for t in teachers]
  for name in names:
    check(
      names.count(name) == 1,
      f"config.teachers names {name!r} twice; give each its own label, as in "
      f"('a={name}', 'b={name}')",
    )
    check(
      "/" not in name and name not in (".", ".."),
      f"config.teachers: {name!r} cannot be a folder's name",
    )
  for spec in (config.student, *teachers):
    plugins.network(network.split_name(spec)[1])
  return teachers


def resolve(config: ConfigDict) -> Run:
  """Checks a config and says everything that it leaves to its method."""
  for key in defaults():
    check(key in config, f"config.{key} is missing")
  known(config.method, tuple(METHODS), "method")
  known(config.dtype, ("float32", "bfloat16", "float64"), "dtype")
  known(config.parallel, ("pmap", "jit"), "parallel")
  known(config.adapter.schedule, ("joint", "two_stage"), "adapter.schedule")
  method = METHODS[config.method]
  settings = dict(config.adapter)
  name = settings.pop("name") or method["adapter"]
  adapter = Adapter(
    name=name,
    learning_rate=number(
      config, "adapter.learning_rate", 0.0, math.inf, open_low=True
    ),
    schedule=settings.pop("schedule"),
    l2=number(config, "adapter.l2", 0.0, math.inf),
    settings=_fields(plugins.find("adapters", name), settings),
  )
  plugins.find("data", config.data.source)
  for key in ("angle.delta", "distance.delta", "adapter.init_scale"):
    number(config, key, 0.0, math.inf, open_low=True)
  for key in ("hint.seed", "data.split_seed", "teacher.seed"):
    whole(config, key, 0)
  number(config, "data.validation", 0.0, 0.5, open_low=True)
  for key in ("image_size", "labels_per_class", "train_size", "pad"):
    whole(config, f"data.{key}", 0)
  terms = _terms(config, method)
  teachers = _networks(config)
  run = Run(
    seed=whole(config, "seed", 0),
    method=config.method,
    student=config.student,
    teachers=teachers,
    ensemble=config.ensemble,
    epochs=whole(config, "epochs", 1),
    batch_size=whole(config, "batch_size", 1),
    dtype=config.dtype,
    temperature=number(config, "kd.temperature", 0.0, math.inf, open_low=True),
    terms=terms,
    adapter=adapter,
    optimizer=_optimizer(config, "optimizer"),
    data=Data(**config.data.to_dict()),
    evaluate_every=whole(config, "evaluate_every", 1),
    checkpoint_every=whole(config, "checkpoint_every", 1),
    keep=whole(config, "keep", 1),
    parallel=config.parallel,
    devices=whole(config, "devices", 0),
    steps_per_dispatch=whole(config, "steps_per_dispatch", 0),
  )
  check(
    bool(teachers) or bool(config.ensemble) or not run.needs_teachers,
    "config.teachers is empty, but config.method="
    f"{config.method} has terms that need teachers; name some, or set "
    "config.method=alone",
  )
  check(
    all(phase.terms for phase in run.phases()),
    "config.adapter.schedule=two_stage drops the hints after its first stage, "
    "and nothing else is in config.terms",
  )
  check(
    config.adapter.schedule == "joint" or run.epochs >= 2,
    "config.adapter.schedule=two_stage needs config.epochs of at least 2",
  )
  return run


def teacher(config: ConfigDict, spec: str) -> Run:
  """The run that trains one teacher: a student with no teachers.

  Its seed is its own (config.teacher.seed and its name), so that neither the
  student's seed nor the other teachers change it.
  """
  name, _ = network.split_name(spec)
  alone = ConfigDict(config.copy_and_resolve_references())
  with alone.unlocked():
    alone.method = "alone"
    for label in alone.terms:
      alone.terms[label] = None
    alone.student = spec
    alone.teachers = ()
    alone.ensemble = ""
    # CRC-32 of the name: one seed a network, the same on every machine.
    seed = whole(config, "teacher.seed", 0)
    alone.seed = (seed + zlib.crc32(name.encode())) % 2**31
    alone.epochs = whole(config, "teacher.epochs", 1)
    alone.batch_size = whole(config, "teacher.batch_size", 1)
    _optimizer(config, "teacher.optimizer")
    alone.optimizer = config.teacher.optimizer
    # What only a student has must not tell one teacher from another.
    for key in ("adapter", "kd", "angle", "distance", "hint"):
      alone[key] = defaults()[key]
    alone.data.labels_per_class = 0
  return resolve(alone)


def as_dict(run: Run) -> dict[str, Any]:
  """The run as plain values; terms by their label."""
  values = dataclasses.asdict(run)
  terms = {t.pop("label"): t for t in values.pop("terms")}
  return {**values, "terms": terms}
