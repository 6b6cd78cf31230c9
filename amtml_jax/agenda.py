"""After which steps a run evaluates and saves."""

from __future__ import annotations

import dataclasses

from amtml_jax import config


@dataclasses.dataclass(frozen=True)
class Agenda:
  """What is to be done after a step, beside training.

  Attributes:
    run: says how often.
    epoch: its steps.
    last: step of the stage.
  """

  run: config.Run
  epoch: int
  last: int

  def evaluates(self, step: int) -> bool:
    """At the end of some epochs: never is a state saved there unjudged."""
    epoch, left = divmod(step, self.epoch)
    return not left and (
      step == self.last
      or epoch % self.run.evaluate_every == 0
      or epoch % self.run.checkpoint_every == 0
    )

  def saves(self, step: int) -> bool:
    """By epochs and by steps; the clock is asked elsewhere."""
    steps = self.run.checkpoint_steps
    return (
      step == self.last
      or step % (self.run.checkpoint_every * self.epoch) == 0
      or (steps > 0 and step % steps == 0)
    )

  def next(self, step: int) -> int:
    """The first step after this one that has something on it."""
    epoch = step // self.epoch + 1
    while not self.evaluates(epoch * self.epoch):
      epoch += 1
    every = self.run.checkpoint_steps or self.last
    return min(epoch * self.epoch, (step // every + 1) * every)
