"""A short damage campaign: whatever is damaged, one sentence, no change."""

import pytest

from experiments import damage_campaign, damages
from experiments.damages import Damage

MANIFEST = "run/ensemble/manifest.json"
# What is done to which file of a finished run, and what is said.
EXACT = {
  "no format": (
    ("json", "run/config.json", "format"),
    "has no format, and this version reads format 2; use another --workdir",
  ),
  "another format": (("json", "run/config.json", "format", 1), "has format 1,"),
  "no config": (
    ("text", "run/config.json", b"[]"),
    "config.json is damaged: it",
  ),
  "a type in the config": (
    ("json", "run/config.json", "epochs", "two"),
    "config.json is damaged: epochs='two' must be a number",
  ),
  "a summary's key": (
    ("json", "run/summary.json", "teachers.b.fingerprint"),
    "summary.json is damaged: teachers.b.fingerprint is missing; remove it",
  ),
  "half a summary": (("cut", "run/summary.json", 0.5), "it is no JSON"),
  "a teacher twice": (
    ("json", MANIFEST, "teachers.1.name", "a"),
    "[1].name='a'",
  ),
  "an unknown field": (
    ("json", MANIFEST, "teachers.0.x", 1),
    "teachers[0] has no key 'x'; known: name, variant,",
  ),
  "another format of an ensemble": (
    ("json", MANIFEST, "format", 1),
    "format=1 is not known; known: 2",
  ),
  "fewer classes": (
    ("json", MANIFEST, "teachers.0.classes", ["0", "1"]),
    "its teachers are not what was written",
  ),
  "another accuracy": (
    ("json", MANIFEST, "teachers.1.validation_accuracy", 0.125),
    "its teachers are not what was written",
  ),
  "another result": (
    ("json", "run/summary.json", "student.test_accuracy", 0.125),
    "the summary",
  ),
  "swapped weights": (
    ("swap", "run/ensemble/a-*", "b-*"),
    "its fingerprint is not",
  ),
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
  return damage_campaign.build(tmp_path_factory.mktemp("damage") / "scene")


@pytest.mark.parametrize("kind", damages.KINDS)
def test_a_damage_is_one_sentence_and_changes_nothing(kind, scene):
  tried, bad = damage_campaign.campaign(scene, kind, cases=3, seed=0)
  assert not bad, bad
  assert tried == 3


@pytest.mark.parametrize("what", EXACT)
def test_the_sentence_says_what_is_damaged(what, scene):
  edit, sentence = EXACT[what]
  damage = Damage((sentence,), "distill", "run", (), (edit,))
  assert damage_campaign.fault(damage, scene) is None
