"""The frozen teachers: a folder with one Orbax tree each, and a manifest.

    ensemble/
      manifest.json       the teachers in order, and how good they are
      NAME-FINGERPRINT/   one teacher's params and batch statistics

The manifest is written last, so a folder with one is whole. Order in it gives
teacher t its meaning.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_type_hints

from amtml_jax import checks, config, files, network, trees
from amtml_jax.checks import Range
from amtml_jax.errors import DamagedError, UserError
from amtml_jax.network import Network, Variables
from amtml_jax.types import Dataset

MANIFEST = "manifest.json"
FORMAT = 2
Accuracy = Annotated[float, Range(0, 1)]
Above0 = Annotated[float, Range(0, above=True)]
Size = Annotated[int, Range(1, 65_536)]


@dataclasses.dataclass(frozen=True)
class Teacher:
  """One line of the manifest; the types are what is accepted there.

  Attributes:
    name: unique in the ensemble.
    variant: what `plugins.network` finds the architecture by.
    classes: names, in the order of the logits.
    image_shape: `(H, W, channels)`.
    mean: per channel of images in [0, 1].
    std: per channel.
    validation_accuracy: held out of training; ranks the teachers.
    test_accuracy: for the report only.
    parameters: their number.
    fingerprint: SHA-256 of the weights.
    config: of the run that trained it.
  """

  name: str
  variant: str
  classes: tuple[str, ...]
  image_shape: tuple[Size, Size, Size]
  mean: tuple[float, ...]
  std: tuple[Above0, ...]
  validation_accuracy: Accuracy
  test_accuracy: Accuracy
  parameters: Annotated[int, Range(0)]
  fingerprint: str
  config: dict[str, Any]

  @property
  def folder(self) -> str:
    """Of its weights, inside the ensemble's."""
    return f"{self.name}-{self.fingerprint[:8]}"

  def network(self, dtype: str = "float32") -> Network:
    """The architecture with its normalisation."""
    return network.build(
      f"{self.name}={self.variant}",
      len(self.classes),
      self.mean,
      self.std,
      dtype=dtype,
    )

  def like(self) -> Any:
    """The shapes of its variables, as they were trained."""
    return self.network(self.config["dtype"]).shapes(self.image_shape)[1]


@dataclasses.dataclass(frozen=True)
class Ensemble:
  """Teachers in the manifest's order, with their weights in host memory."""

  teachers: tuple[Teacher, ...]
  variables: tuple[Variables, ...]

  @property
  def ranking(self) -> tuple[int, ...]:
    """Indices, best held-out accuracy first; the earlier one on a tie."""
    accuracy = [t.validation_accuracy for t in self.teachers]
    return tuple(sorted(range(len(accuracy)), key=lambda t: -accuracy[t]))

  @property
  def fingerprints(self) -> list[list[str]]:
    """What a run remembers of its teachers: name and fingerprint, in order."""
    return [[t.name, t.fingerprint] for t in self.teachers]

  def networks(self, dtype: str) -> tuple[Network, ...]:
    """The architectures, computing in `dtype`."""
    return tuple(t.network(dtype) for t in self.teachers)

  def folded(
    self, dtype: str
  ) -> tuple[tuple[Network, ...], tuple[Variables, ...]]:
    """Networks and variables as a run uses them: frozen, so folded."""
    pairs = zip(self.networks(dtype), self.variables, strict=True)
    return tuple(zip(*(n.folded(v) for n, v in pairs), strict=True))

  def check(self, data: Dataset) -> None:
    """Refuses teachers of other classes or another image shape."""
    for teacher in self.teachers:
      if tuple(teacher.classes) != tuple(data.classes):
        raise UserError(
          f"teacher {teacher.name!r} knows {len(teacher.classes)} classes "
          f"({_few(teacher.classes)}), the data set has {len(data.classes)} "
          f"({_few(data.classes)}); teachers must be trained on the same ones"
        )
      if tuple(teacher.image_shape) != data.image.shape[1:]:
        raise UserError(
          f"teacher {teacher.name!r} was trained on images of shape "
          f"{tuple(teacher.image_shape)}, the data set has "
          f"{data.image.shape[1:]}; set config.data.image_size, or use other "
          "teachers"
        )


def untrained(
  runs: Sequence[config.Run], data: Dataset, mean: tuple, std: tuple
) -> Ensemble:
  """The ensemble that some runs will give, with zeros for weights."""
  teachers = []
  for run in runs:
    name, variant = network.split_name(run.student)
    teachers.append(
      Teacher(
        name=name,
        variant=variant,
        classes=data.classes,
        image_shape=data.image.shape[1:],
        mean=mean,
        std=std,
        validation_accuracy=0.0,
        test_accuracy=0.0,
        parameters=0,
        fingerprint="",
        config=config.as_dict(run),
      )
    )
  return Ensemble(
    tuple(teachers), tuple(trees.empty(t.like()) for t in teachers)
  )


def _few(names: tuple[str, ...]) -> str:
  return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def manifest(folder: pathlib.Path) -> tuple[Teacher, ...]:
  """The teachers of an ensemble, without their weights."""
  path = folder / MANIFEST
  if not os.path.exists(path):  # pathlib's raises for a name too long
    raise UserError(
      f"there is no ensemble in {folder} (no {MANIFEST}); train one with "
      "`amtml teach`, or set config.ensemble"
    )
  what, fix = (
    "the ensemble's manifest",
    "restore it; or remove it, and `amtml teach` makes it again",
  )
  value = files.read_json(path, what, fix)
  wrong = _wrong(value)
  if wrong:
    raise DamagedError(f"{what} {path} cannot be used: {wrong}; {fix}")
  return tuple(
    Teacher(
      **{k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    )
    for entry in value["teachers"]
  )


def _wrong(value: dict[str, Any]) -> str | None:
  """What is wrong with a manifest."""
  top = {"format": Literal[FORMAT], "digest": str, "teachers": tuple}
  wrong = checks.wrong(value, top, "")
  if wrong or not value["teachers"]:
    return wrong or "it lists no teacher"
  kinds: dict[Any, Any] = get_type_hints(Teacher, include_extras=True)
  dtype = Literal["float32", "bfloat16", "float64"]
  kinds["config"] = {"dtype": dtype, ...: Any}
  for i, entry in enumerate(value["teachers"]):
    where = f"teachers[{i}]"
    wrong = checks.wrong(entry, kinds, where)
    if wrong:
      return wrong
    name, channels = entry["name"], entry["image_shape"][-1]
    before = [e["name"] for e in value["teachers"][:i]]
    rules = {
      "name": name not in ("", ".", "..", *before) and "/" not in name,
      "fingerprint": re.fullmatch("[0-9a-f]{64}", entry["fingerprint"]),
      "classes": len(set(entry["classes"])) == len(entry["classes"]) >= 2,
      "mean": len(entry["mean"]) == channels,
      "std": len(entry["std"]) == channels,
    }
    for key, holds in rules.items():
      if not holds:
        return f"{where}.{key}={checks.shown(entry[key])} cannot be"
  if value["digest"] != files.digest(value["teachers"]):
    return "its teachers are not what was written"
  return None


def save(
  folder: pathlib.Path,
  teachers: tuple[Teacher, ...],
  variables: tuple[Variables, ...],
) -> Ensemble:
  """Writes an ensemble; each entry gets its fingerprint here.

  Weights that are there already, and whole, are not written again; the
  manifest is replaced last.
  """
  entries = []
  for teacher, tree in zip(teachers, variables, strict=True):
    print_ = trees.fingerprint(trees.to_host(tree))
    entry = dataclasses.replace(teacher, fingerprint=print_)
    if not _intact(folder, entry):
      trees.save_tree(folder / entry.folder, tree)
    entries.append(entry)
  listed = [files.plain(dataclasses.asdict(e)) for e in entries]
  whole = {"format": FORMAT, "digest": files.digest(listed), "teachers": listed}
  files.write_json(folder / MANIFEST, whole)
  return Ensemble(tuple(entries), tuple(variables))


def _intact(folder: pathlib.Path, teacher: Teacher) -> bool:
  try:
    restore_entries(folder, (teacher,))
  except DamagedError:
    return False
  return True


def restore(folder: pathlib.Path, specs: tuple[str, ...]) -> Ensemble:
  """The teachers that a config names, in its order; all with none named.

  Raises:
    UserError: one is not in the ensemble, or its files are damaged.
  """
  entries = {t.name: t for t in manifest(folder)}
  chosen = []
  for spec in specs or tuple(entries):
    name, variant = network.split_name(spec)
    if name not in entries:
      raise UserError(
        f"the ensemble in {folder} has no teacher {name!r}; it has "
        f"{', '.join(entries)}"
      )
    if specs and entries[name].variant != variant:
      raise UserError(
        f"teacher {name!r} in {folder} is a {entries[name].variant}, not a "
        f"{variant}; name it {name}={entries[name].variant}"
      )
    chosen.append(entries[name])
  return Ensemble(tuple(chosen), restore_entries(folder, tuple(chosen)))


def restore_entries(
  folder: pathlib.Path, teachers: Sequence[Teacher]
) -> tuple[Variables, ...]:
  """The weights of some teachers; the others' are not read."""
  variables = []
  for teacher in teachers:
    like, place = _like(folder, teacher), folder / teacher.folder
    try:
      tree = trees.restore_tree(place, like, teacher.fingerprint)
      # Orbax restores what is there, whatever shapes it is asked for.
      if trees.structure(tree) != trees.structure(like):
        raise DamagedError(f"{MANIFEST} tells other shapes than {place} has")
    except DamagedError as error:
      raise DamagedError(
        f"teacher {teacher.name!r}: {error}; `amtml teach` makes it again, or "
        "restore its files"
      ) from None
    variables.append(tree)
  return tuple(variables)


def _like(folder: pathlib.Path, teacher: Teacher) -> Any:
  """The shapes that a line of the manifest asks for."""
  try:
    return teacher.like()
  except Exception as error:  # an unknown network, or images too small for it
    raise UserError(
      f"teacher {teacher.name!r} in {folder / MANIFEST} cannot be built: "
      f"{checks.told(error)}"
    ) from None
