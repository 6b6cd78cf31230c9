"""How well a log_gate can weigh teachers by what they say.

    amtml sweep --experiment=ceiling --workdir=runs/trios
    amtml report runs/trios

Under the trios of trios.py, whose workdir it may share, and without a student:
the mixture's test accuracy by the weights of a log_gate that was fitted on the
student's training images, on those that its run holds out, which no teacher has
seen either, and on all training images; beside even weights, weights that know
which classes are whose, and two that know the label: the specialist of the true
class, and a right teacher whenever there is one. Other gates may do better.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from amtml_jax import commands, config, ensemble
from amtml_jax.adapters import log_gate
from amtml_jax.experiments import comparison, specialists, trios
from amtml_jax.losses import mixture
from amtml_jax.progress import View
from amtml_jax.tables import Table
from amtml_jax.types import Dataset, ModelOutput

EPOCHS, BATCH, RATE, DECAY = 40, 128, 3e-3, 1e-2
LOOKS = {
  "even": "even weights",
  "shares": "each by what it gives its own classes",
  "own": "log_gate, fitted on the student's images",
  "held": "log_gate, fitted on held-out images",
  "all": "log_gate, fitted on all training images",
  "class": "the specialist of the true class",
  "oracle": "a right teacher whenever there is one",
}
SEEDS = (0,)
get_config, teach = trios.get_config, trios.teach


def get_runs(text: str = "") -> dict[str, dict]:
  """One run a trio; its second word is the skew."""
  skew = trios.read(text)["skew"]
  return {f"ceiling {skew} {t}": {"teacher.seed": t} for t in trios.TRIOS}


def run(settings: ConfigDict, workdir: pathlib.Path, view: View) -> dict:
  """The test accuracies under one trio."""
  del workdir
  loaded = ensemble.restore(pathlib.Path(settings.ensemble), settings.teachers)
  own = commands.load(config.resolve(settings).data)
  settings = settings.copy_and_resolve_references()
  settings.data.labels_per_class = 0
  whole = commands.load(config.resolve(settings).data).train

  def said(split: Dataset) -> tuple[np.ndarray, np.ndarray]:
    return _logits(loaded, split.image), split.label

  logits, label = said(own.test)
  right = logits.argmax(-1) == label
  groups = specialists.GROUPS[settings.data.source]
  knows = np.asarray([np.isin(label, group) for group in groups])
  probs = np.asarray(jax.nn.softmax(logits, axis=-1))
  shares = [
    each[:, list(group)].sum(axis=-1)
    for each, group in zip(probs, groups, strict=True)
  ]
  found = {
    "even": _accuracy(logits, np.ones(right.shape), label),
    "shares": _accuracy(logits, np.stack(shares), label),
    "class": _accuracy(logits, knows, label),
    "oracle": float(right.any(axis=0).mean()),
  }
  fitted = {"own": own.train, "held": own.validation, "all": whole}
  for name, split in fitted.items():
    view.say(f"fitting on {len(split.label)} images")
    weigh = _fitted(*said(split), settings.seed)
    found[name] = _accuracy(logits, weigh(logits), label)
  return found


def _logits(teachers: ensemble.Ensemble, images: np.ndarray) -> np.ndarray:
  """`(m, N, C)`."""
  every = []
  for entry, variables in zip(
    teachers.teachers, teachers.variables, strict=True
  ):
    predict = jax.jit(functools.partial(entry.network().predict, variables))
    parts = np.split(images, range(1000, len(images), 1000))
    every.append(np.concatenate([predict(part).logits for part in parts]))
  return np.stack(every)


def _accuracy(
  logits: np.ndarray, weights: np.ndarray, label: np.ndarray
) -> float:
  """Of the mixture by weights `(m, N)`, which need not sum to 1."""
  probs = np.asarray(jax.nn.softmax(logits, axis=-1))
  mixed = np.einsum("mn,mnc->nc", weights, probs)
  return float(np.mean(mixed.argmax(axis=-1) == label))


def _fitted(
  logits: np.ndarray, label: np.ndarray, seed: int
) -> Callable[[np.ndarray], np.ndarray]:
  """Weights of a log_gate that minimises the term `mixture` on these images."""
  gate, rng = log_gate.Adapter(len(logits)), np.random.default_rng(seed)

  def log_weights(params: Any, logits: jax.Array) -> jax.Array:
    said = tuple(ModelOutput(z, ()) for z in logits)
    return gate.apply({"params": params}, said[0], said)

  def loss(params: Any, logits: jax.Array, label: jax.Array) -> jax.Array:
    probs = jax.nn.log_softmax(logits, axis=-1)
    return jnp.mean(
      mixture.mixture_loss(log_weights(params, logits), probs, label)
    )

  steps = len(label) // BATCH
  rate = optax.cosine_decay_schedule(RATE, EPOCHS * steps)
  update = optax.adamw(rate, weight_decay=DECAY)

  @jax.jit
  def epoch(params: Any, state: Any, rows: jax.Array) -> Any:
    def step(carry: Any, rows: jax.Array) -> Any:
      params, state = carry
      batch = (jnp.asarray(logits)[:, rows], jnp.asarray(label)[rows])
      change, state = update.update(
        jax.grad(loss)(params, *batch), state, params
      )
      return (optax.apply_updates(params, change), state), None

    return jax.lax.scan(step, (params, state), rows)[0]

  first = tuple(ModelOutput(z[:1], ()) for z in logits)
  params = gate.init(jax.random.key(seed), first[0], first)["params"]
  state = update.init(params)
  for _ in range(EPOCHS):
    rows = rng.permutation(len(label))[: steps * BATCH].reshape(steps, BATCH)
    params, state = epoch(params, state, rows)
  return lambda logits: np.exp(log_weights(params, logits)).T


def tabulate(results: comparison.Results) -> list[Table]:
  """Accuracy and way by what the weights know."""
  found = {
    run: {key: comparison.scores(cells, key) for key in LOOKS}
    for run, cells in results.items()
    if cells
  }
  rows = []
  for key, label in LOOKS.items():
    own, way = {}, {}
    for trio, by_key in enumerate(found.values()):
      if not by_key[key]:
        continue  # a result of before this was asked
      even, this, best = (by_key[k][0] for k in ("even", key, "oracle"))
      own[trio], way[trio] = this, 100 * (this - even) / (best - even)
    rows.append((label, comparison.shown(own), comparison.shown(way, 1)))
  note = (
    "Test accuracy of the teachers' mixture in percent, and how much of the "
    "way from even weights to the oracle it covers; mean ± standard deviation "
    "over trios. The last two weights know the label."
  )
  of = [tuple(results)] * len(rows)
  return [
    Table("Weights", ("weights", "accuracy", "way"), rows, (note,), of=of)
  ]
