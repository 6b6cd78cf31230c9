"""Small runs for the tests: seconds, on blobs, with dense nets."""

from amtml_jax.defaults import defaults


def blobs(**changes):
  """A config on `tests.blobs`; `changes` are dotted keys with `__`."""
  c = defaults()
  c.data.source = "tests.blobs"
  c.data.pad = 1
  c.student = "mlp_small"
  c.teachers = ("a=mlp_small", "b=mlp_small")
  c.epochs, c.batch_size = 2, 36
  c.steps_per_dispatch = 1  # also on a GPU: some tests stop between two
  c.optimizer.learning_rate = 0.02
  c.teacher.epochs, c.teacher.batch_size = 8, 36
  c.teacher.optimizer.learning_rate = 0.02
  with c.unlocked():
    c.update_from_flattened_dict(
      {key.replace("__", "."): value for key, value in changes.items()}
    )
  return c


def quick(**changes):
  """`blobs` without the angle term, which compiles for seconds."""
  return blobs(**{"terms__angle": 0.0} | changes)
