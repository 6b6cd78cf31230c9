"""Every network of the package keeps the contract of models/, unasked.

What needs a run is run for one member of each family: that with the fewest
parameters, or a narrow one of the same parts where all are large. The shapes of
every network are traced in `parameter_count_test.py`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtml_jax import plugins, trees
from amtml_jax.network import Network
from tests import quick_compile
from tests.models.shapes import check_output, parameters, traced

SMALL, ODD, PIXEL = (8, 8, 1), (28, 28, 1), (1, 1, 1)
CLASSES = 7
# Two blocks each, as far as one of every kind needs: compiling is the cost.
NARROW = {
  "alexnet": {"widths": (4, 6, 8, 6, 6)},
  "densenet": {"layers": (2, 1), "growth": 4},
  "dpn": {
    "blocks": (2,),
    "widths": (8,),
    "dense": (2,),
    "inner": (4,),
    "groups": 2,
    "stem": 6,
  },
  "googlenet": {"stem": 6, "stages": (((4, 3, 6, 2, 4, 2),),)},
  "mobilenetv2": {
    "stem": 4,
    "stages": (((2, 6, 1, 1),), ((2, 8, 1, 2),)),
    "last": 24,
  },
  "resnet_preactivated": {
    "blocks": (1, 1),
    "widths": (8, 16),
    "inner": (4, 8),
    "stem": 8,
    "last_norm": True,
  },
  "resnet_projected": {
    "blocks": (1, 1),
    "widths": (8, 16),
    "inner": (4, 8),
    "groups": 2,
    "stem": 8,
    "stem_size": 7,
  },
  "shufflenetv2": {"stem": 4, "blocks": (2,), "widths": (12,), "last": 24},
  "vgg": {"convolutions": (1, 2), "widths": (4, 8)},
}
compiled = functools.partial(jax.jit, compiler_options=quick_compile.OPTIONS)


def keys_of(rows):
  return jax.random.split(jax.random.key(5), rows)


@functools.cache
def member(family):
  """The constructor of a family's narrow or smallest network."""
  variants = plugins.module("models", family).VARIANTS
  if family in NARROW:
    model = plugins.find("models", family)
    return functools.partial(model, **NARROW[family])
  return variants[
    min(variants, key=functools.partial(parameters, classes=CLASSES))
  ]


@functools.cache
def run(family):
  """A network, its variables and eight images that differ by device of two."""
  model = member(family)(CLASSES)
  image = jax.random.normal(jax.random.key(1), (8, 8, 8, 1))
  image += jnp.arange(8).reshape(8, 1, 1, 1) // 2
  return model, compiled(model.init)(jax.random.key(0), image), image


families = pytest.mark.parametrize("family", plugins.names("models"))


@families
@pytest.mark.parametrize("size", [SMALL, ODD, PIXEL], ids=str)
def test_features_of_every_size_of_image(family, size):
  output, _ = traced(member(family)(CLASSES), size)
  check_output(output, size, CLASSES)


@families
@pytest.mark.parametrize(
  ("dtype", "param_dtype", "logits"),
  [
    ("bfloat16", "float32", "float32"),
    ("bfloat16", "bfloat16", "float32"),
    ("float64", "float64", "float64"),
  ],
)
def test_dtypes(x64, family, dtype, param_dtype, logits):
  model = member(family)(CLASSES, dtype=dtype, param_dtype=param_dtype)
  output, variables = traced(model, SMALL, jnp.float32)
  assert output.logits.dtype == logits
  assert {feature.dtype.name for feature in output.features} == {dtype}
  leaves = jax.tree.leaves(variables["params"])
  assert {leaf.dtype.name for leaf in leaves} == {param_dtype}

  # A step must hand back statistics of the dtype that it was given (it may
  # run in a scan), and that is never less than float32.
  step = functools.partial(model.apply, train=True, mutable="batch_stats")
  image = jax.ShapeDtypeStruct((2, *SMALL), jnp.float32)
  _, stepped = jax.eval_shape(step, variables, image, keys=keys_of(2))
  old = jax.tree.map(lambda s: (s.shape, s.dtype), variables)
  new = jax.tree.map(lambda s: (s.shape, s.dtype), stepped)
  assert new.get("batch_stats") == old.get("batch_stats")
  leaves = jax.tree.leaves(stepped)
  assert {leaf.dtype.name for leaf in leaves} <= {logits}


@families
def test_evaluation_touches_no_statistics(family):
  model, variables, image = run(family)
  # Raises where a variable is written, as none is mutable.
  jax.eval_shape(model.apply, variables, image)


@families
def test_evaluation_sees_one_example_at_a_time(family):
  model, variables, image = run(family)
  apply = compiled(model.apply)
  whole = apply(variables, image)
  changed = apply(variables, image.at[1:].multiply(3.0))
  for a, b in zip(
    (whole.logits, *whole.features),
    (changed.logits, *changed.features),
    strict=True,
  ):
    np.testing.assert_allclose(a[0], b[0], rtol=1e-5, atol=1e-5)
    assert not np.allclose(a[1:], b[1:], rtol=1e-2)


def forward(model, variables, image, keys):
  return model.apply(
    variables, image, train=True, keys=keys, mutable="batch_stats"
  )


@functools.cache
def stepped(family):
  """The loss, its gradient, outputs and statistics, before and after a step."""
  model, variables, image = run(family)
  labels = jnp.arange(8) % CLASSES

  def loss(params):
    parts = {**variables, "params": params}
    output, stats = forward(model, parts, image, keys_of(8))
    log_probs = jax.nn.log_softmax(output.logits)
    return -log_probs[jnp.arange(8), labels].mean(), (output, stats)

  step = compiled(jax.value_and_grad(loss, has_aux=True))
  (before, outputs), gradient = step(variables["params"])
  gradient = jax.tree.map(np.asarray, gradient)
  size = np.sqrt(sum(np.vdot(g, g) for g in jax.tree.leaves(gradient)))
  moved = jax.tree.map(
    lambda p, g: p - 0.05 * g / size, variables["params"], gradient
  )
  (after, _), _ = step(moved)
  return before, after, gradient, outputs


@families
def test_a_step_lowers_the_loss(family):
  before, after, gradient, _ = stepped(family)
  assert after < before
  for path, leaf in jax.tree.leaves_with_path(gradient):
    # The bias of a convolution before a norm may as well not be there.
    if path[-1].key != "bias":
      assert np.abs(leaf).max() > 0, path


@families
def test_four_replicas_train_as_one(family):
  model, variables, image = run(family)
  *_, (output, stats) = stepped(family)
  split = jax.pmap(
    functools.partial(forward, model.clone(axis="replicas")),
    axis_name="replicas",
    in_axes=(None, 0, 0),
  )
  shards, replicas = split(
    variables, image.reshape(4, 2, 8, 8, 1), keys_of(8).reshape(4, 2)
  )
  np.testing.assert_allclose(
    np.asarray(shards.logits).reshape(8, CLASSES),
    output.logits,
    rtol=1e-4,
    atol=1e-4,
  )
  for replica in range(4):
    mine = jax.tree.map(lambda s, r=replica: s[r], replicas)
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
      mine,
      stats,
    )


@families
def test_bfloat16_is_close_to_float32(family):
  model, variables, image = run(family)
  exact = compiled(model.apply)(variables, image).logits
  half = model.clone(dtype=jnp.bfloat16)
  logits = compiled(half.apply)(variables, image).logits
  error = np.abs(logits - exact).max() / np.abs(exact).max()
  # Far above float32's rounding: the network was computed in bfloat16.
  assert 1e-4 < error < 0.03


@families
def test_a_folded_teacher_is_the_teacher(family):
  """Every logit and feature, with statistics far from fresh ones."""
  model, variables, image = run(family)
  trained = trained_statistics({"batch_stats": {}, **variables})
  whole = Network("t", family, model, (0.0,), (1.0,))
  folded, fewer = whole.folded(trained)
  had_norm = bool(trained["batch_stats"])
  assert (folded is not whole) == had_norm
  # Both are of the shapes that are asked of them without a run.
  for network, own in ((whole, trained), (folded, fewer)):
    like, shapes = network.shapes(SMALL)
    assert trees.structure(own) == trees.structure(shapes)
    two = jax.eval_shape(network.predict, own, image[:2])
    assert trees.structure(like) == trees.structure(two)
  if not had_norm:
    return
  output = compiled(whole.predict)(trained, image)
  again = compiled(folded.predict)(fewer, image)
  for a, b in zip(
    (output.logits, *output.features),
    (again.logits, *again.features),
    strict=True,
  ):
    assert a.dtype == b.dtype
    np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5 * np.abs(a).max())


def trained_statistics(variables):
  """Batch norms as training might leave them, the rest as it is."""
  draw = np.random.default_rng(3)
  ranges = {
    "mean": (-1.0, 1.0),
    "var": (0.3, 3.0),
    "scale": (-0.5, 1.5),
    "bias": (-0.5, 0.5),
  }

  def leaf(path, x):
    kind = path[-1].key
    if kind not in ranges:
      return x
    return draw.uniform(*ranges[kind], x.shape).astype(np.float32)

  return jax.tree.map_with_path(leaf, variables)


@families
def test_initialisation_is_he_normal_with_fan_out(family):
  _, variables, _ = run(family)
  for path, leaf in jax.tree.leaves_with_path(variables["params"]):
    kind = path[-1].key
    if kind != "kernel":
      np.testing.assert_array_equal(leaf, 1.0 if kind == "scale" else 0.0)
      continue
    fan_out = leaf.size // leaf.shape[-2]
    scaled = np.asarray(leaf) / np.sqrt(2.0 / fan_out)
    # The standard deviation of n normal draws is itself uncertain by 1/√(2n).
    slack = 5 / np.sqrt(2 * leaf.size)
    assert abs(scaled.std() - 1) < slack, path
    # A normal cut at two deviations and rescaled never passes 2.28.
    if leaf.size > 2000:
      assert np.abs(scaled).max() > 2.5, path
