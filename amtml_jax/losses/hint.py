"""Hints: each teacher teaches one group (stage) of the student."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from amtml_jax import pairwise, pooling, precision, types
from amtml_jax.errors import UserError

# He normal with fan out, as in the networks.
_HE_NORMAL = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# Where the authors' untrained regressors are drawn from: U(-0.005, 0.005).
_UNTRAINED = 0.005


def hint_loss(predicted_map: jax.Array, teacher_map: jax.Array) -> jax.Array:
  """Mean squared difference between a predicted and a teacher's map.

  One teacher's part of L_HT: mean over (N, H, W, channels) of
  (u_t - F_t(v_f(t)))² (Liu, Zhang, Wang 2020, section 3.3; FitNets, Romero et
  al. 2015).

  Args:
    predicted_map: `(N, H, W, channels)`, after the regressor F_t; receives
      gradient. Computed in at least float32.
    teacher_map: the same shape; receives none.

  Returns:
    A scalar.

  Raises:
    ValueError: if the shapes differ.
  """
  return jnp.mean(hint_rows(predicted_map, teacher_map))


def hint_rows(predicted_map: jax.Array, teacher_map: jax.Array) -> jax.Array:
  """`hint_loss` of every row, `(N,)`."""
  if predicted_map.ndim != 4 or predicted_map.shape != teacher_map.shape:
    raise ValueError(
      "hints need two maps of one shape (N, H, W, channels), not "
      f"{predicted_map.shape} and {teacher_map.shape}."
    )
  predicted, target = precision.at_least_float32(predicted_map, teacher_map)
  difference = jax.lax.stop_gradient(target) - predicted
  return jnp.mean(difference**2, axis=(1, 2, 3))


def groups(
  mapping: str | Sequence[int | str],
  ranking: Sequence[int],
  num_groups: int,
  seed: int = 0,
  *,
  names: Sequence[str] = (),
) -> tuple[int, ...]:
  """The group f(t) of the student that each teacher teaches, counted from 0.

  Liu, Zhang, Wang (2020), section 3.3. More teachers than groups start again
  from the same end: L, L-1, ..., 1, L, ...

  Args:
    mapping: `better_high` (the best teacher gets the deepest group),
      `better_low`, `random`; `middle` or `last` for one group to all; or by
      teacher a group's number 1..L or name.
    ranking: all teachers' indices, best held-out accuracy first.
    num_groups: L.
    seed: of `random`.
    names: the groups' names; `stage1` to `stageL` if empty.

  Returns:
    A group in [0, L) for every teacher, by the teacher's index.

  Raises:
    UserError: if the mapping is unknown, of wrong length, or names a group
      that the student lacks.
  """
  teachers = len(ranking)
  if sorted(ranking) != list(range(teachers)):
    raise ValueError(f"a ranking orders all teachers, unlike {ranking}.")
  if not isinstance(mapping, str):
    names = tuple(names) or tuple(f"stage{i + 1}" for i in range(num_groups))
    if len(mapping) != teachers:
      raise UserError(
        f"hint.mapping has {len(mapping)} entries for {teachers} teachers; "
        "give one group a teacher"
      )
    return tuple(_group(entry, names) for entry in mapping)
  if mapping in _PLACES:
    return (_PLACES[mapping](num_groups),) * teachers
  orders = {  # of the groups, for the best teacher first
    "better_high": range(num_groups)[::-1],
    "better_low": range(num_groups),
    "random": np.random.default_rng(seed).permutation(num_groups),
  }
  if mapping not in orders:
    raise UserError(
      f"there is no hint.mapping {mapping!r}; use better_high, better_low, "
      "random, middle, last or a list of groups"
    )
  found = [0] * teachers
  for place, teacher in enumerate(ranking):
    found[teacher] = int(orders[mapping][place % num_groups])
  return tuple(found)


# Of two middle ones the lower: a network's last stage is never its middle.
_PLACES = {"middle": lambda n: (n - 1) // 2, "last": lambda n: n - 1}


def _group(entry: int | str, names: Sequence[str]) -> int:
  if entry in names:
    return names.index(entry)
  if not isinstance(entry, str) and 1 <= entry <= len(names):
    return entry - 1
  raise UserError(
    f"hint.mapping asks for group {entry!r}, which the network lacks; use a "
    f"number from 1 to {len(names)} or one of {', '.join(names)}"
  )


def _stage_names(output: types.ModelOutput) -> tuple[str, ...]:
  if not output.names:
    return tuple(f"stage{i + 1}" for i in range(len(output.features)))
  return tuple(name for name in output.names if name != "stem")


class Term(nn.Module):
  """`hint_loss` of every teacher, summed; owns the regressors F_t.

  Attributes:
    ranking: the teachers' indices, best first; their own order if empty.
    mapping: see `groups`.
    seed: of the mapping `random`, and of regressors that are not trained.
    normalize: L2-normalise both maps along channels before F_t.
    weighted: weight a row's hint by the teacher's weight for that row (CA-MKD;
      with the adapter `single` only that teacher hints, and has a regressor).
      No gradient reaches the weights.
    teacher_stage: the teachers' stage that hints: `last`, the last
      convolutional one; `middle`, as FitNet's; or by number or name.
    train_regressors: with False they are drawn once, and no parameters: what
      the authors' notebooks have, whose optimizer does not know them.
  """

  needs_teachers: ClassVar[bool] = True

  ranking: tuple[int, ...] = ()
  mapping: str | tuple[int | str, ...] = "better_high"
  seed: int = 0
  normalize: bool = False
  weighted: bool = False
  teacher_stage: int | str = "last"
  train_regressors: bool = True

  @nn.compact
  def __call__(self, inputs: types.DistillInputs):
    """Returns the rows' sum over all teachers and the number of rows."""
    student, teachers = inputs.student, inputs.teachers
    chosen = groups(
      self.mapping,
      self.ranking or tuple(range(len(teachers))),
      len(student.stages),
      self.seed,
      names=_stage_names(student),
    )
    losses = []
    for t, (teacher, group) in enumerate(zip(teachers, chosen, strict=True)):
      if self.weighted and inputs.only not in (None, t):
        continue
      hint, guided = pooling.common_size(
        *precision.at_least_float32(self._hint(teacher), student.stages[group])
      )
      if self.normalize:
        hint, guided = pairwise.unit(hint)[0], pairwise.unit(guided)[0]
      rows = hint_rows(self._regressed(guided, hint.shape[-1], t), hint)
      if self.weighted:
        weight = jnp.exp(inputs.log_weights[:, t])
        rows = rows * jax.lax.stop_gradient(weight)
      losses.append(rows)
    total = sum(losses)
    return jnp.sum(total), jnp.asarray(total.size, total.dtype)

  def _hint(self, teacher: types.ModelOutput) -> jax.Array:
    """What of a teacher's maps the student is to know."""
    if self.teacher_stage == "last":
      return teacher.last
    if self.teacher_stage == "middle":
      return teacher.stages[_PLACES["middle"](len(teacher.stages))]
    return teacher.stages[_group(self.teacher_stage, _stage_names(teacher))]

  def _regressed(self, guided: jax.Array, width: int, t: int) -> jax.Array:
    """F_t of the student's map, in the channels of teacher t's."""
    if not self.train_regressors:
      key = jax.random.fold_in(jax.random.key(self.seed), t)
      shape = (guided.shape[-1], width)
      kernel = jax.random.uniform(
        key, shape, guided.dtype, -_UNTRAINED, _UNTRAINED
      )
      return jnp.matmul(guided, kernel, precision="highest")
    return nn.Conv(
      width,
      (1, 1),
      use_bias=False,
      dtype=guided.dtype,
      param_dtype=guided.dtype,
      precision="highest",
      kernel_init=_HE_NORMAL,
      name=f"regressor_{t}",
    )(guided)
