"""Every check of a config, and the one place that reads a ConfigDict."""

from __future__ import annotations

import dataclasses
import functools
import typing
import zlib
from typing import Any

from ml_collections import ConfigDict

from amtml_jax import network, plugins, runs
from amtml_jax.checks import LARGEST, check, fits, shown, taken, told, wrong
from amtml_jax.defaults import defaults
from amtml_jax.methods import METHODS, PAPER, settled
from amtml_jax.runs import Adapter, Data, Optimizer, Run, Term
from amtml_jax.runs import Phase as Phase

# What every plug-in is given by the objective, or is flax's own.
GIVEN = ("name", "num_teachers", "parent", "ranking")
# Metrics stand beside the terms, under names of their own.
METRICS = (
  "accuracy",
  "adapter_l2",
  "gradient_norm",
  "loss",
  "weights_entropy",
)


@functools.cache
def _known() -> dict[Any, Any]:
  """The kind of a whole config."""
  kinds = runs.kinds(defaults())
  for name in ("adapter", *kinds["terms"]):
    if name in kinds:
      kinds[name][...] = Any  # the plug-in's own fields, see `_settings`
  kinds["terms"][...] = runs.NUMBERS[float] | None  # by a label of one's own
  return {**kinds, ...: Any}  # and that label's settings


def _plain(value: Any, key: str) -> Any:
  """The value with dicts for ConfigDicts, and every reference worked out."""
  check(key.count(".") < 9, f"{key} is too deep: does it contain itself?")
  if isinstance(value, tuple | list):
    return tuple(_plain(inner, key) for inner in value)
  if not isinstance(value, dict | ConfigDict):
    return value
  plain = {}
  for name in value:
    try:
      inner = value[name]
    except Exception as error:  # a required value, a reference's arithmetic
      check(False, f"{key}.{name} cannot be worked out: {told(error)}")
    plain[name] = _plain(inner, f"{key}.{name}")
  return plain


def _refuse(sentence: str | None) -> None:
  """Refuses what is wrong; a missing key is mended by the defaults."""
  missing = sentence is not None and sentence.endswith(" is missing")
  fix = "; a config starts from amtml_jax.defaults.defaults()"
  check(sentence is None, f"{sentence}{fix if missing else ''}")


def _read(config: Any) -> dict[str, Any]:
  """Every value of a config, of its kind."""
  check(
    isinstance(config, ConfigDict),
    f"a config is a ConfigDict, not {shown(config)}; start from "
    "amtml_jax.defaults.defaults()",
  )
  values, known = _plain(config, "config"), _known()
  _refuse(wrong(values, known, "config"))
  values = taken(values, known)
  listed = ", ".join(name for name in known if name is not ...)
  for name in values:
    check(
      name in known or name in values["terms"],
      f"config has no key {name!r}; known: {listed} (and the labels in "
      "config.terms)",
    )
  return values


def _plugin(key: str, name: str, find: Any) -> Any:
  """What a name stands for."""
  check(not name.startswith("."), f"{key}={shown(name)} is no module's path")
  try:
    return find(name)
  except Exception as error:  # a user's own module raises anything
    check(False, f"{key}={shown(name)}: {told(error)}")


def _settings(
  plugin: Any, section: dict[str, Any], known: dict[Any, Any], key: str
) -> dict[str, Any]:
  """Those settings of a section that the plug-in has a field for, checked."""
  check(
    dataclasses.is_dataclass(plugin),
    f"{key}: {plugin.__module__} is no flax module, so it cannot be used",
  )
  try:
    hints = typing.get_type_hints(plugin)
  except Exception:  # names that are there for a type checker alone
    hints = {}
  fields = {f.name: f for f in dataclasses.fields(plugin)}
  fields = {n: f for n, f in fields.items() if n not in GIVEN and f.init}
  kinds: dict[Any, Any] = {}
  for name, field in fields.items():
    needed = dataclasses.MISSING is field.default is field.default_factory
    kind = known.get(name, hints.get(name, Any))
    kinds[name if needed else f"{name}?"] = kind
  listed = ", ".join(n for n in {**known, **fields} if n is not ...)
  for name in section:
    check(
      name in known or name in fields,
      f"{key} has no key {name!r}; known: {listed}",
    )
  own = {n: v for n, v in section.items() if n in fields}
  _refuse(wrong(own, kinds, key))
  return taken(own, kinds)


def _terms(values: dict[str, Any], method: dict[str, Any]) -> tuple[Term, ...]:
  ratio = values["kd"]["ratio"]
  symbols = {"ratio": ratio, "double": 2.0 * ratio, "rest": 1.0 - ratio}
  built = []
  for label, weight in values["terms"].items():
    plugin, settings = _term(label, values)
    if weight is None:
      preset = method["terms"].get(label, 0.0)
      weight = symbols.get(preset, preset)
    if weight:
      built.append(Term(label, plugin, float(weight), settings))
  check(bool(built), "every weight in config.terms is 0: nothing to learn")
  return tuple(built)


def _term(label: str, values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
  """A term's plug-in and settings."""
  known, key = _known(), f"config.terms.{label}"
  other = label in known and label not in known["terms"]
  check(
    not other
    and label not in METRICS
    and fits(label, str)
    and "/" not in label,
    f"{key}: {shown(label)} cannot be a label; choose another",
  )
  section = values.get(label, {})
  check(
    isinstance(section, dict),
    f"config.{label}={shown(section)} must be the settings of the term {label}",
  )
  if "plugin" in section:
    key = f"config.{label}.plugin"
  name = section.get("plugin", label)
  _refuse(wrong(name, str, key))
  found = _plugin(key, name, functools.partial(plugins.find, "losses"))
  check(
    isinstance(getattr(found, "needs_teachers", None), bool),
    f"{key}: the Term of {name} does not say whether it needs_teachers",
  )
  # A label of one's own for a term of the package has the bounds of that term.
  bounds = known.get(name.removeprefix("amtml_jax.losses."), {})
  own = {**bounds, **known.get(label, {}), "plugin": str}
  settings = _settings(found, section, own, f"config.{label}")
  if isinstance(settings.get("mapping"), str):
    settings["mapping"] = _mapping(settings["mapping"])
  if isinstance(settings.get("teacher_stage"), str):
    settings["teacher_stage"] = _stage(settings["teacher_stage"])
  # As in the package's own sections, None is no value of one's own.
  free = {n for n, v in settings.items() if v is None and n in bounds}
  return name, {n: v for n, v in settings.items() if n not in free}


def _mapping(mapping: str) -> str | tuple[int | str, ...]:
  """A strategy's name, or the stages between commas as a tuple."""
  if mapping in ("better_high", "better_low", "random", "middle", "last"):
    return mapping
  return tuple(_stage(part.strip()) for part in mapping.split(","))


def _stage(text: str) -> int | str:
  """A stage's number, where the text is one, or its name."""
  return int(text) if text.isdecimal() and len(text) < 9 else text


def _networks(values: dict[str, Any]) -> tuple[str, ...]:
  teachers = values["teachers"]
  names = [network.split_name(t)[0] for t in teachers]
  for name in names:
    check(
      names.count(name) == 1,
      f"config.teachers names {name!r} twice; give each its own label, as in "
      f"('a={name}', 'b={name}')",
    )
    check(
      "/" not in name and name not in (".", "..") and len(name) <= 100,
      f"config.teachers: {shown(name)} cannot be a folder's name; choose "
      "another label",
    )
  for key, spec in (
    ("student", values["student"]),
    *(("teachers", t) for t in teachers),
  ):
    _plugin(f"config.{key}", network.split_name(spec)[1], plugins.network)
  return teachers


def resolve(config: ConfigDict) -> Run:
  """Checks a config and says everything that it leaves to its method.

  Raises:
    UserError: what is wrong with it, in one sentence.
  """
  return _resolved(_read(config))


def _resolved(values: dict[str, Any]) -> Run:
  values = settled(values)
  method, own = METHODS[values["method"]], values["adapter"]
  name = method["adapter"] if own["name"] is None else own["name"]
  find = functools.partial(plugins.find, "adapters")
  adapter = _plugin("config.adapter.name", name, find)
  find = functools.partial(plugins.find, "data")
  _plugin("config.data.source", values["data"]["source"], find)
  same = {f.name for f in dataclasses.fields(Run)} & set(values)
  same -= {"adapter", "data", "optimizer", "teachers", "terms"}
  run = Run(
    **{key: values[key] for key in same},
    teachers=_networks(values),
    temperature=values["kd"]["temperature"],
    terms=_terms(values, method),
    adapter=Adapter(
      name=name,
      learning_rate=own["learning_rate"],
      schedule=own["schedule"],
      l2=own["l2"],
      settings=_settings(adapter, own, _known()["adapter"], "config.adapter"),
    ),
    optimizer=Optimizer(**values["optimizer"]),
    data=Data(**values["data"]),
  )
  check(
    bool(run.teachers) or bool(run.ensemble) or not run.needs_teachers,
    "config.teachers is empty, but config.method="
    f"{run.method} has terms that need teachers; name some, or set "
    "config.method=alone",
  )
  check(
    run.seeds == 1 or bool(run.data.views) or not run.needs_teachers,
    f"config.seeds={run.seeds} students share what their teachers say of every "
    "view; set config.data.views to how many views an image has",
  )
  listens = any(
    getattr(plugins.find("losses", t.plugin), "needs_peers", False)
    for t in run.terms
  )
  check(
    listens == (run.peers > 1),
    f"config.peers={run.peers}, and "
    + ("a" if listens else "no")
    + " term in config.terms listens to peers; set config.method=dml and "
    "config.peers of at least 2, or neither",
  )
  check(
    run.seeds == 1 or run.peers == 1,
    f"config.seeds={run.seeds} and config.peers={run.peers}: a program has "
    "students of several seeds or peers, not both",
  )
  check(
    run.students[-1] <= LARGEST,
    f"config.seed={run.seed} leaves no room for config.seeds={run.seeds}",
  )
  check(
    all(phase.terms for phase in run.phases()),
    "config.adapter.schedule=two_stage drops the hints after its first stage, "
    "and nothing else is in config.terms",
  )
  check(
    run.adapter.schedule == "joint" or run.epochs >= 2,
    "config.adapter.schedule=two_stage needs config.epochs of at least 2",
  )
  return run


def teacher(config: ConfigDict, spec: str) -> Run:
  """The run that trains one teacher: a student with no teachers.

  Its seed is its own (config.teacher.seed and its name), so that neither the
  student's seed nor the other teachers change it.
  """
  values, name = _read(config), network.split_name(spec)[0]
  own, unchanged = values["teacher"], _read(defaults())
  # CRC-32 of the name: one seed a network, the same on every machine.
  seed = (own["seed"] + zlib.crc32(name.encode())) % 2**31
  alone = {
    "method": "alone",
    "terms": dict.fromkeys(values["terms"]),
    "student": spec,
    "teachers": (),
    "ensemble": "",
    "seed": seed,
    "seeds": 1,
    "peers": 1,
    "epochs": own["epochs"],
    "batch_size": own["batch_size"],
    "optimizer": own["optimizer"],
    "data": {
      **values["data"],
      **dict(labels_per_class=0, views=0, view_seed=0, outputs=""),
    },
  }
  # What only a student has must not tell one teacher from another.
  for key in {key.partition(".")[0] for key in PAPER} - {"optimizer"}:
    alone[key] = unchanged[key]
  return _resolved({**values, **alone})


def as_dict(run: Run) -> dict[str, Any]:
  """The run as plain values; terms by their label."""
  values = dataclasses.asdict(run)
  terms = {t.pop("label"): t for t in values.pop("terms")}
  return {**values, "terms": terms}
