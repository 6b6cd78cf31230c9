"""Computes what the teachers say of every view, where it is not kept yet."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from amtml_jax import feed, files, lock, processes, views
from amtml_jax.data import pipeline
from amtml_jax.ensemble import Teacher
from amtml_jax.errors import DamagedError, InterruptedRun, UserError
from amtml_jax.interrupt import Interrupt
from amtml_jax.kept import Kept
from amtml_jax.network import Variables
from amtml_jax.objective import Objective
from amtml_jax.plan import Plan
from amtml_jax.progress import View
from amtml_jax.types import ModelOutput
from amtml_jax.views import Taught

FORMAT = 1
# How far what one teacher says of one picture may differ between devices,
# relative to all it says: bfloat16 and TF32 stay far below, another teacher is
# far above.
SAME = 0.05
# Of a config's data, what tells one view from another.
OF = (
  *("image_size", "labels_per_class", "train_size", "split_seed"),
  *("validation", "pad", "flip", "view_seed"),
)


def hear(plan: Plan, folder: pathlib.Path, view: View) -> Taught:
  """What is kept of every view; what is not there yet is computed and kept.

  Args:
    plan: of the run; it has teachers.
    folder: where outputs are kept; other runs may share it.
    view: the terminal.

  Raises:
    UserError: what is kept was said by other teachers, or what they say cannot
      be kept, or has no room.
    NotSavedError: the system refuses to write it.
  """
  reading, variables = plan.reading, plan.teachers
  data, objective = plan.run.data, plan.stages[0].objective
  each = jax.tree.structure(reading.like).unflatten(reading.read)
  shared = feed.shared(plan.splits.train, plan.replicas)
  arrays: list[tuple[np.ndarray, ...]] = []
  with lock.turn(folder, view.say, "--config.data.outputs"):
    for t, teacher in enumerate(plan.ensemble.teachers):
      alone = dataclasses.replace(objective, teachers=(objective.teachers[t],))
      hearing = _Hearing(plan, teacher, alone, variables[t], shared, folder)
      arrays += hearing.arrays(reading.like[t], jax.tree.leaves(each[t]), view)
  size = sum(array.nbytes for leaf in arrays for array in leaf)
  resident = size <= data.resident_mb * 2**20
  view.say(
    f"the teachers' outputs of {views.count(data)} views: {size / 2**20:,.1f} "
    f"MB {'on every device' if resident else f'read from {folder}'}"
  )
  return Taught(reading, tuple(arrays), plan.replicas, resident)


class _Hearing:
  """One teacher, and what is kept of it."""

  def __init__(
    self,
    plan: Plan,
    teacher: Teacher,
    objective: Objective,
    variables: Variables,
    shared: feed.Shared,
    folder: pathlib.Path,
  ):
    """`objective` has this teacher alone; nothing is compiled here."""
    self._run, self._train = plan.run, plan.splits.train
    self._name, self._replicas = teacher.name, plan.replicas
    self._variables, self._shared = variables, shared
    data, settings = plan.run.data, dataclasses.asdict(plan.run.data)
    of = {
      "format": FORMAT,
      "teacher": teacher.fingerprint,
      "variant": teacher.variant,
      "mean": teacher.mean,
      "std": teacher.std,
      "dtype": plan.run.dtype,
      "data": plan.splits.fingerprint,
      **{name: settings[name] for name in OF},
    }
    of = files.plain(of)
    self._kept = Kept(folder / f"{teacher.folder}-{files.digest(of)[:16]}", of)

    def say(variables: Any, shared: Any, fed: Any) -> list[jax.Array]:
      frozen, view = variables
      plain = feed.plain(shared, fed)
      batch = pipeline.draw(
        *(plain.image, plain.label, None),
        example=plain.example,
        key=views.key(data),
        epoch=view,
        pad=data.pad,
        flip=data.flip,
      )
      (output,) = objective.teach((frozen,), batch.image)
      return jax.tree.leaves(views.compact(output))

    self._say = plan.replicas.lift_rows(say)

  def arrays(
    self, like: ModelOutput, read: list[bool], view: View
  ) -> list[tuple[np.ndarray, ...]]:
    """Of every leaf that is read, an array a view."""
    leaves = jax.tree_util.tree_leaves_with_path(
      jax.eval_shape(views.compact, like)
    )
    shapes, size = {}, len(self._train.label)
    for i, (path, leaf) in enumerate(leaves):
      name = jax.tree_util.keystr(path, simple=True, separator=".")
      if read[i]:
        shapes[i] = (name, (size, *leaf.shape[1:]), leaf.dtype)
    numbers = range(views.count(self._run.data))
    found = {
      (v, i): self._find(v, *shapes[i], view) for v in numbers for i in shapes
    }
    missing = [
      place
      for place, array in found.items()
      if not processes.told(array is not None)
    ]
    self._room(sum(_bytes(*shapes[i][1:]) for _, i in missing))
    todo = sorted({v for v, _ in missing})
    batches = -(-size // self._run.batch_size)
    with (
      view.phase(f"hearing {self._name}", batches * len(todo), 0) as line,
      Interrupt() as interrupt,
    ):
      for turn, v in enumerate(todo):
        names = {i: shapes[i] for w, i in missing if w == v}
        self._hear(v, names, line, turn * batches, interrupt)
        for i in names:
          found[v, i] = self._find(v, *shapes[i], view)
    for v in numbers:
      if v not in todo:
        self._compare(v, {i: found[v, i] for i in shapes})
    return [tuple(found[v, i] for v in numbers) for i in shapes]

  def _find(
    self, v: int, name: str, shape: tuple[int, ...], dtype: Any, view: View
  ) -> np.ndarray | None:
    try:
      array = self._kept.find(f"view{v}-{name}")
    except DamagedError as error:
      view.say(f"{error}; computed again")
      return None
    fits = array is None or (array.shape, array.dtype) == (shape, dtype)
    return array if fits else None

  def _room(self, size: int) -> None:
    """Refuses what the disk has no room for, before hours are spent."""
    there = self._kept.folder
    while not there.exists():
      there = there.parent
    free = shutil.disk_usage(there).free
    if processes.told(size > free):
      raise UserError(
        f"the outputs of teacher {self._name!r} need {size / 2**30:.1f} GB, "
        f"and {there} has {free / 2**30:.1f} GB left; set config.data.outputs "
        "to a folder on another disk, or fewer config.data.views"
      )

  def _hear(
    self,
    v: int,
    names: dict[int, tuple],
    line: Any,
    done: int,
    interrupt: Interrupt,
  ) -> None:
    """Computes one view's missing leaves, and keeps them.

    Raises:
      InterruptedRun: a signal came. What there is of this view is dropped; the
        views before it are kept.
    """
    new = {f"view{v}-{n}": (shape, dtype) for n, shape, dtype in names.values()}
    first = processes.first()
    writing = self._kept.writing(new) if first else contextlib.nullcontext({})
    with writing as files_:
      for number, rows in enumerate(self._every(v), start=1):
        for i, file in zip(names, files_.values(), strict=False):
          file.append(self._finite(rows[i]))
        line.advance(done + number, self._run.batch_size, f"view {v + 1}")
        # Several processes stop together, at the end of a view.
        self._stop(interrupt.asked and not processes.several())
    self._stop(processes.any_says(interrupt.asked))

  def _stop(self, asked: bool) -> None:
    if asked:
      raise InterruptedRun(
        f"stopped while teacher {self._name!r} was heard; the same command "
        "goes on from the last whole view"
      )

  def _every(self, v: int) -> Iterator[list[np.ndarray]]:
    """Every leaf's rows, batch by batch, in the order of the data set."""
    left = len(self._train.label)
    said = (self._said(v, fed) for fed in self._in_order())
    waiting = next(said)
    for ahead in itertools.chain(said, [None]):
      # The devices work on the next batch while this one is fetched.
      yield self._rows(waiting, left)
      waiting, left = ahead, left - self._run.batch_size

  def _in_order(self) -> Iterator[feed.Fed]:
    return feed.in_order(self._train, self._run.batch_size, self._replicas)

  def _said(self, v: int, fed: feed.Fed) -> list[jax.Array]:
    return self._say((self._variables, np.int32(v)), self._shared, fed)

  def _rows(self, said: list[jax.Array], left: int) -> list[np.ndarray]:
    """A batch's rows on the host, without those that pad it."""
    return [self._replicas.every_row(leaf)[:left] for leaf in said]

  def _finite(self, rows: np.ndarray) -> np.ndarray:
    if not np.isfinite(rows).all():
      raise UserError(
        f"teacher {self._name!r} says what is no number, or more than float16 "
        "holds; set config.data.views=0, or use another teacher"
      )
    return rows

  def _compare(self, v: int, kept: dict[int, np.ndarray]) -> None:
    """Refuses outputs that this teacher does not give, whatever they say.

    Of every view one batch is computed again, somewhere in the set where that
    costs no reading.
    """
    size, batch = len(self._train.label), self._run.batch_size
    number = int(files.digest([self._kept.of, v])[:8], 16) % -(-size // batch)
    number = number if self._train.resident else 0
    first = number * batch
    fed = next(itertools.islice(self._in_order(), number, None))
    computed = self._rows(self._said(v, fed), size - first)
    for i, leaf in kept.items():
      rows = computed[i].astype(np.float64)
      was = leaf[first : first + len(rows)].astype(np.float64)
      far = np.linalg.norm(was - rows) > SAME * np.linalg.norm(rows) + 1e-6
      if processes.told(far):
        raise DamagedError(
          f"{self._kept.folder} holds what another teacher than {self._name!r} "
          "says; remove the folder, and it is computed again"
        )


def _bytes(shape: tuple[int, ...], dtype: Any) -> int:
  return math.prod(shape) * np.dtype(dtype).itemsize
