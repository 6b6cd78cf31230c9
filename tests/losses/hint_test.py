"""Hints: reference values, who teaches which group, the regressors."""

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax.errors import UserError
from amtml_jax.losses import hint
from amtml_jax.types import DistillInputs, ModelOutput


@pytest.mark.parametrize("case", golden.cases("hint"), ids=golden.title)
def test_reference_values(x64, case):
  value = hint.hint_loss(case["student"] @ case["kernel"], case["target"])
  np.testing.assert_allclose(value, case["expected"], rtol=1e-10)


def test_value_and_gradient_by_hand():
  predicted = jnp.asarray([[1.0, 2.0], [0.0, 4.0]])[:, None, None]
  teacher = jnp.asarray([[1.0, 4.0], [2.0, 4.0]])[:, None, None]
  value, gradients = jax.jit(jax.value_and_grad(hint.hint_loss, (0, 1)))(
    predicted, teacher
  )
  assert value == 2
  np.testing.assert_allclose(gradients[0][:, 0, 0], [[0, -1], [-1, 0]])
  np.testing.assert_array_equal(gradients[1], 0)


@pytest.mark.parametrize(
  ("mapping", "ranking", "num_groups", "expected"),
  [
    ("better_high", (2, 0, 1), 3, (1, 0, 2)),
    ("better_low", (2, 0, 1), 3, (1, 2, 0)),
    # Round-robin from the same end: L, L-1, L again.
    ("better_high", (0, 1, 2), 2, (1, 0, 1)),
    ("better_low", (0, 1, 2), 2, (0, 1, 0)),
    ("better_high", (1, 0), 4, (2, 3)),
    # One group for all; of two middle ones the lower.
    ("middle", (2, 0, 1), 3, (1, 1, 1)),
    ("middle", (0, 1), 4, (1, 1)),
    ("middle", (0, 1), 1, (0, 0)),
    ("last", (1, 0), 4, (3, 3)),
    ((3, 1, 1), (0, 1, 2), 3, (2, 0, 0)),
    (("stage2", 1), (0, 1), 3, (1, 0)),
  ],
)
def test_groups(mapping, ranking, num_groups, expected):
  assert hint.groups(mapping, ranking, num_groups, 0) == expected


def test_random_groups_are_seeded_and_cover_the_student():
  found = {hint.groups("random", (0, 1, 2), 3, seed) for seed in range(20)}
  assert all(sorted(groups) == [0, 1, 2] for groups in found)
  assert len(found) > 1
  again = {hint.groups("random", (0, 1, 2), 3, seed) for seed in range(20)}
  assert found == again
  assert hint.groups("random", tuple(range(5)), 2, 3)[2:4] == hint.groups(
    "random", (0, 1), 2, 3
  )


@pytest.mark.parametrize(
  ("mapping", "message"),
  [
    ("best_first", "no hint.mapping 'best_first'; use better_high"),
    ((1,), "1 entries for 2 teachers; give one group a teacher"),
    ((1, 4), "group 4, which the network lacks; use a number from 1 to 3"),
    ((0, 1), "group 0"),
    (("stage1", "stage9"), "'stage9'.*one of stage1, stage2, stage3"),
  ],
)
def test_impossible_mappings_are_the_users_mistake(mapping, message):
  with pytest.raises(UserError, match=message):
    hint.groups(mapping, (0, 1), 3, 0)


def output(*features, names=()):
  return ModelOutput(
    jnp.zeros((features[0].shape[0], 2)),
    tuple(jnp.asarray(f, jnp.float32) for f in features),
    names,
  )


def example():
  """Two rows; stages of 2 and 3 channels, two teachers of 4 and 1."""
  rng = np.random.default_rng(0)
  student = output(
    rng.normal(size=(2, 8, 8, 5)),
    rng.normal(size=(2, 4, 4, 2)),
    rng.normal(size=(2, 2, 2, 3)),
    names=("stem", "stage1", "stage2"),
  )
  teachers = (
    output(rng.normal(size=(2, 2, 2, 7)), rng.normal(size=(2, 2, 2, 4))),
    output(rng.normal(size=(2, 4, 4, 7)), rng.normal(size=(2, 4, 4, 1))),
  )
  return DistillInputs(
    student,
    jnp.zeros(2, int),
    teachers,
    log_weights=jnp.log(jnp.asarray([[0.0, 1.0], [0.25, 0.75]])),
  )


def halve(x):
  return x.reshape(2, 2, 2, 2, 2, -1).mean((2, 4))


@pytest.mark.parametrize("weighted", [False, True])
def test_term_by_hand(weighted):
  inputs = example()
  # The better teacher, 1, gets the deepest stage, as small as half its own.
  term = hint.Term(ranking=(1, 0), weighted=weighted)
  variables = jax.jit(term.init)(jax.random.key(0), inputs)
  kernels = {k: p["kernel"] for k, p in variables["params"].items()}
  assert {k: p.shape for k, p in kernels.items()} == {
    "regressor_0": (1, 1, 2, 4),
    "regressor_1": (1, 1, 3, 1),
  }
  stages = [np.asarray(f, np.float64) for f in inputs.student.stages]
  last = [np.asarray(t.last, np.float64) for t in inputs.teachers]
  errors = [
    last[0] - halve(stages[0]) @ np.float64(kernels["regressor_0"][0, 0]),
    halve(last[1]) - stages[1] @ np.float64(kernels["regressor_1"][0, 0]),
  ]
  rows = np.stack([np.mean(e**2, axis=(1, 2, 3)) for e in errors], -1)
  weights = [[0.0, 1.0], [0.25, 0.75]] if weighted else [[1, 1], [1, 1]]
  total, count = jax.jit(term.apply)(variables, inputs)
  np.testing.assert_allclose(total, np.sum(rows * weights), rtol=1e-5)
  assert count == 2


def test_a_teachers_stage_may_be_named():
  inputs = example()
  shapes = jax.eval_shape(
    hint.Term(mapping=("stage1", 2), teacher_stage="stage1").init,
    jax.random.key(0),
    inputs,
  )["params"]
  assert shapes["regressor_0"]["kernel"].shape == (1, 1, 2, 7)
  assert shapes["regressor_1"]["kernel"].shape == (1, 1, 3, 7)
  with pytest.raises(UserError, match="stage5"):
    jax.eval_shape(
      hint.Term(teacher_stage="stage5").init, jax.random.key(0), inputs
    )


def test_the_teachers_middle_stage_hints():
  inputs = example()
  rng = np.random.default_rng(1)
  deep = output(*(rng.normal(size=(2, 1, 1, c)) for c in (5, 6, 9)))
  inputs = inputs.replace(teachers=(deep, *inputs.teachers[1:]))
  term = hint.Term(mapping="middle", teacher_stage="middle")
  shapes = jax.eval_shape(term.init, jax.random.key(0), inputs)["params"]
  # Of the student's two stages the first, 2 channels; of 3 and 2 stages the
  # second and the first.
  assert shapes["regressor_0"]["kernel"].shape == (1, 1, 2, 6)
  assert shapes["regressor_1"]["kernel"].shape == (1, 1, 2, 7)


def test_regressors_that_are_not_trained_are_no_parameters():
  inputs = example()
  term = hint.Term(ranking=(1, 0), train_regressors=False, seed=4)
  (total, count), variables = jax.jit(term.init_with_output)(
    jax.random.key(0), inputs
  )
  assert not jax.tree.leaves(variables)
  stages = [np.asarray(f) for f in inputs.student.stages]
  last = [np.asarray(t.last) for t in inputs.teachers]
  rows = 0.0
  for t, (guided, u) in enumerate(
    [(halve(stages[0]), last[0]), (stages[1], halve(last[1]))]
  ):
    # The documented draw: the seed's key, folded with the teacher's index.
    key = jax.random.fold_in(jax.random.key(4), t)
    kernel = np.asarray(
      jax.random.uniform(key, (guided.shape[-1], u.shape[-1]))
    )
    kernel = (2 * kernel - 1) * 0.005
    rows += np.mean((guided @ kernel - u) ** 2, axis=(1, 2, 3))
  np.testing.assert_allclose(total, rows.sum(), rtol=1e-5)
  assert count == 2

  def loss(student):
    return term.apply(variables, inputs.replace(student=student))[0]

  on_student = jax.jit(jax.grad(loss))(inputs.student)
  assert all(np.any(g != 0) for g in on_student.stages)


def test_normalised_hints_ignore_the_maps_scale():
  inputs = example()
  scaled = inputs.replace(
    student=jax.tree.map(lambda x: 5 * x, inputs.student),
    teachers=jax.tree.map(lambda x: 3 * x, inputs.teachers),
  )
  term = hint.Term(normalize=True)
  variables = jax.jit(term.init)(jax.random.key(0), inputs)
  apply = jax.jit(term.apply)
  value = apply(variables, inputs)[0]
  np.testing.assert_allclose(apply(variables, scaled)[0], value, rtol=1e-5)
  # With kernels of 0 what is left is the unit vectors' mean square.
  zero = jax.tree.map(jnp.zeros_like, variables)
  np.testing.assert_allclose(apply(zero, inputs)[0], 2 * (1 / 4 + 1), rtol=1e-5)


def test_regressors_start_he_normal():
  features = jnp.zeros((1, 1, 1, 300))
  inputs = DistillInputs(
    output(features), jnp.zeros(1, int), (output(features[..., :200]),)
  )
  kernel = hint.Term().init(jax.random.key(0), inputs)["params"]["regressor_0"]
  std = np.std(kernel["kernel"])
  np.testing.assert_allclose(std, (2 / 200) ** 0.5, rtol=0.02)
