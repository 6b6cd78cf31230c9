"""Every term and every adapter of the folders, tested unasked."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax import plugins
from amtml_jax.types import DistillInputs, ModelOutput

TERMS = plugins.names("losses")
ADAPTERS = plugins.names("adapters")
ROWS, CLASSES, TEACHERS = 8, 5, 3
KEY = jax.random.key(0)
# Their rows are the second axis.
INNER = ("teacher_log_probs", "peer_log_probs")


def network(rng, channels):
  """A network's output: a stem and three stages, each half the size."""
  shapes = [(ROWS, 8, 8, channels)]
  shapes += [(ROWS, 8 >> i, 8 >> i, channels << i) for i in range(3)]
  return ModelOutput(
    normal(rng, ROWS, CLASSES) * 2,
    tuple(normal(rng, *shape) for shape in shapes),
    ("stem", "stage1", "stage2", "stage3"),
  )


def normal(rng, *shape):
  return rng.normal(size=shape).astype(np.float32)


def log_softmax(x):
  return x - np.log(np.exp(x).sum(-1, keepdims=True))


def example():
  rng = np.random.default_rng(0)
  teachers = tuple(network(rng, 3) for _ in range(TEACHERS))
  return DistillInputs(
    student=network(rng, 2),
    labels=np.arange(ROWS, dtype=np.int32) % CLASSES,
    teachers=teachers,
    log_weights=log_softmax(normal(rng, ROWS, TEACHERS)),
    teacher_log_probs=log_softmax(np.stack([t.logits for t in teachers])),
    target_log_probs=log_softmax(normal(rng, ROWS, CLASSES)),
    peer_log_probs=log_softmax(normal(rng, 3, ROWS, CLASSES)),
    temperature=2.0,
  )


def shards(inputs, count):
  """A leading axis of replicas on every array, wherever its rows are."""

  def split(x, rows_at):
    return np.stack(np.split(np.asarray(x), count, axis=rows_at))

  inner = {n: getattr(inputs, n) for n in INNER}
  plain = inputs.replace(**dict.fromkeys(inner))
  return jax.tree.map(lambda x: split(x, 0), plain).replace(
    **{n: split(x, 1) for n, x in inner.items()}, axis="replicas"
  )


def term(name):
  return plugins.find("losses", name)(ranking=(1, 0, 2))


@pytest.mark.parametrize("name", TERMS)
def test_a_term_on_four_devices_is_the_term_on_one(name):
  one = term(name)
  inputs = example()
  variables = jax.jit(one.init)(KEY, inputs)

  def local(variables, student, inputs):
    value, count = one.apply(variables, inputs.replace(student=student))
    if inputs.axis is not None:
      count = jax.lax.psum(count, inputs.axis)
    return value / count, (value, count)

  step = jax.value_and_grad(local, argnums=(0, 1), has_aux=True)
  (mean, (value, count)), (on_params, on_student) = jax.jit(step)(
    variables, inputs.student, inputs
  )
  assert value.shape == count.shape == ()
  assert value.dtype == count.dtype == jnp.float32
  assert mean > 0

  parts = shards(inputs, 4)
  (means, _), (on_params_4, on_student_4) = jax.pmap(
    step, axis_name="replicas", in_axes=(None, 0, 0)
  )(variables, parts.student, parts)
  np.testing.assert_allclose(jnp.sum(means), mean, rtol=1e-5)
  for whole, part in zip(
    jax.tree.leaves(on_student), jax.tree.leaves(on_student_4), strict=True
  ):
    np.testing.assert_allclose(
      part.reshape(whole.shape), whole, rtol=1e-4, atol=1e-7
    )
  for whole, part in zip(
    jax.tree.leaves(on_params), jax.tree.leaves(on_params_4), strict=True
  ):
    np.testing.assert_allclose(part.sum(0), whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", TERMS)
def test_no_gradient_reaches_a_teacher_and_half_precision_is_promoted(name):
  one = term(name)
  half = jax.tree.map(
    lambda x: np.asarray(x, jnp.bfloat16) if x.dtype == jnp.float32 else x,
    example(),
  )
  variables = jax.jit(one.init)(KEY, half)

  def value(teachers, student):
    inputs = half.replace(teachers=teachers, student=student)
    return one.apply(variables, inputs)[0]

  total, on_teachers = jax.jit(jax.value_and_grad(value))(
    half.teachers, half.student
  )
  assert total.dtype == jnp.float32
  for gradient in jax.tree.leaves(on_teachers):
    np.testing.assert_array_equal(gradient, 0)
  for leaf in jax.tree.leaves(variables):
    assert leaf.dtype == jnp.float32


@pytest.mark.parametrize("name", TERMS)
def test_a_term_that_needs_no_teachers_has_none(name):
  one = term(name)
  inputs = example()
  alone = DistillInputs(inputs.student, inputs.labels)
  if one.needs_teachers or getattr(one, "needs_peers", False):
    with pytest.raises((AttributeError, IndexError, TypeError, ValueError)):
      one.init_with_output(KEY, alone)
  else:
    run = jax.jit(one.init_with_output)
    (value, count), _ = run(KEY, alone)
    full, _ = run(KEY, inputs)
    assert (value, count) == full


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_weighs_every_instance_by_itself(name):
  inputs = example()
  adapter = plugins.find("adapters", name)(
    num_teachers=TEACHERS, ranking=(1, 0, 2)
  )
  labels = inputs.labels if adapter.needs_labels else None
  arguments = (inputs.student, inputs.teachers, labels)
  variables = jax.jit(adapter.init)(KEY, *arguments)
  found = jax.jit(adapter.apply)(variables, *arguments)
  assert found.shape == (ROWS, TEACHERS)
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(jnp.exp(found).sum(-1), 1, rtol=1e-6)
  last = jax.tree.map(lambda x: x[-3:], arguments)
  alone = jax.jit(adapter.apply)(variables, *last)
  np.testing.assert_allclose(jnp.exp(alone), jnp.exp(found[-3:]), rtol=1e-5)


@pytest.mark.parametrize("name", ADAPTERS)
def test_one_teacher_has_all_the_weight(name):
  inputs = example()
  adapter = plugins.find("adapters", name)(num_teachers=1, ranking=(0,))
  arguments = (inputs.student, inputs.teachers[:1], inputs.labels)
  found, _ = jax.jit(adapter.init_with_output)(KEY, *arguments)
  np.testing.assert_allclose(found, 0, atol=1e-7)


@pytest.mark.parametrize("folder", ["losses", "adapters"])
def test_a_plugin_says_what_it_does(folder):
  for name in plugins.names(folder):
    found = plugins.find(folder, name)
    # A dataclass without a docstring of its own shows its signature.
    assert not inspect.getdoc(found).startswith(f"{found.__name__}("), name
    assert plugins.module(folder, name).__doc__, name
