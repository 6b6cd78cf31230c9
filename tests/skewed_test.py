"""Teachers' parts of the data, beside what the student holds out."""

import numpy as np
import pytest

from amtml_jax import commands, config, ensemble
from amtml_jax.errors import UserError
from amtml_jax.experiments import skewed, specialists
from amtml_jax.progress import View


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


def test_the_teachers_of_a_skew_are_looked_for_once(tmp_path, monkeypatch):
  c = specialists.get_config()
  c.teachers = ("a=mlp_small", "b=mlp_small", "c=mlp_small")
  c.teacher.epochs = 1
  first = specialists.teach("okd 1", c, tmp_path, View())
  names = [teacher.name for teacher in ensemble.manifest(first)]
  assert names == ["a", "b", "c"]

  def looked(*_):
    raise LookupError

  monkeypatch.setattr(commands, "teach", looked)
  c.kd.temperature = 2.0  # nothing to a teacher
  assert specialists.teach("gate 1", c, tmp_path, View()) == first
  with pytest.raises(LookupError):
    specialists.teach("gate 0.9", c, tmp_path, View())
  c.teacher.seed = 1
  with pytest.raises(LookupError):
    specialists.teach("gate 1", c, tmp_path, View())
