"""The reference values, and what it means to agree with them."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

PATH = pathlib.Path(__file__).parent / "reference" / "golden.json"
FLOOR = 1e-7


@functools.cache
def _all():
  return json.loads(PATH.read_text())


def cases(kind):
  """The cases of a kind, lists as float64 arrays and labels as integers."""
  return [_arrays(case) for case in _all() if case["kind"] == kind]


# One array a teacher: the stages' and the teachers' widths differ.
RAGGED = ("student_groups", "teacher_last", "kernels")


def _arrays(case):
  return {key: _array(key, value) for key, value in case.items()}


def _array(key, value):
  if isinstance(value, dict):
    return _arrays(value)
  if key in RAGGED:
    return [np.asarray(v) for v in value]
  return np.asarray(value) if isinstance(value, list) else value


def title(case):
  return case.get("name") or f"n{len(case['labels'])}"


def precise_agreement(function, *inputs, values=1e-5, gradients=1e-4):
  """Holds float32 to float64 on the same, rounded inputs.

  The function maps floating-point arrays to an array. The gradient of its sum
  is compared for every input.
  """
  rounded = [np.asarray(x, np.float32) for x in inputs]

  def both(*arrays):
    def total(*xs):
      result = function(*xs)
      return jnp.sum(jnp.where(jnp.isfinite(result), result, 0)), result

    numbers = tuple(range(len(arrays)))
    gradient, result = jax.jit(jax.grad(total, numbers, has_aux=True))(*arrays)
    return np.asarray(result), [np.asarray(g) for g in gradient]

  single, single_gradient = both(*rounded)
  with jax.enable_x64(True):
    double, double_gradient = both(*[x.astype(np.float64) for x in rounded])
  assert single.dtype == np.float32
  assert double.dtype == np.float64
  np.testing.assert_allclose(single, double, rtol=values, atol=FLOOR)
  for one, two in zip(single_gradient, double_gradient, strict=True):
    np.testing.assert_allclose(one, two, rtol=gradients, atol=FLOOR)
