"""Teachers' parts of the data, beside what the student holds out."""

import numpy as np
import pytest

from amtml_jax import commands, config
from amtml_jax.errors import UserError
from amtml_jax.experiments import skewed, specialists


def of(skew, own="0+1+2+3"):
  return skewed.load("train", name=f"digits/{own}/{skew}/0.1/0")


def keys(data):
  return {bytes(image) for image in np.ascontiguousarray(data.image)}


def test_no_teacher_sees_what_the_student_holds_out():
  run = config.resolve(specialists.get_config())
  assert (run.data.validation, run.data.split_seed) == (0.1, 0)
  splits = commands.load(run.data)
  assert keys(of("0")) == keys(splits.train)
  assert not keys(of("0")) & keys(splits.validation)


def test_a_share_of_the_other_classes_is_there():
  whole = np.bincount(of("0").label)
  assert np.bincount(of("0.9").label).tolist() == [
    n if c < 4 else round(0.1 * n) for c, n in enumerate(whole)
  ]
  assert np.bincount(of("1").label)[4:].tolist() == [1] * 6


def test_a_student_of_few_labels_knows_the_others_in_proportion():
  c = specialists.get_config()
  c.data.labels_per_class = 50
  few = commands.load(config.resolve(c).data).train
  for skew, share in (("0.5", 0.5), ("0.9", 0.1)):
    others = few.label > 3
    seen = len(keys(of(skew)) & keys(few)) - np.sum(~others)
    assert abs(seen / others.sum() - share) < 0.08


def test_a_name_that_is_none_is_one_sentence():
  with pytest.raises(UserError, match=r"must be SOURCE/CLASSES/SKEW/VALID"):
    skewed.load("train", name="digits/0+1/0.5")


@pytest.mark.parametrize("text", ["", "abc", "2", "-1", "0.5+", "0.9+0.90"])
def test_skews_are_numbers_from_0_to_1_each_once(text):
  with pytest.raises(ValueError, match=r"from 0 to 1, not|has one twice"):
    specialists.skews(text)
