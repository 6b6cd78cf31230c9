"""What everyone says of every image, by hand and beside evaluation's sums."""

import numpy as np
import pytest

from amtml_jax import commands, listening, objective, parallel
from amtml_jax.adapters import confidence, latent
from amtml_jax.errors import UserError
from amtml_jax.progress import View
from amtml_jax.types import Dataset
from experiments import case_study
from tests.evaluate_test import network
from tests.settings import quick


def listen(adapter, devices, lift="pmap"):
  """Ten images in batches of four: the last one is padded."""
  goal = objective.Objective(
    network("s", 0.5, 0.3, 0.2),
    (network("a", 0.1, 0.7, 0.2), network("b", 0.6, 0.2, 0.2)),
    adapter,
    (),
    temperature=5.0,
  )
  label = np.arange(10, dtype=np.int32) % 3
  data = Dataset(np.zeros((10, 1, 1, 1), np.uint8), label, ("x", "y", "z"))
  # v·θ_t·β = log 3 and 0: weights of 3/4 and 1/4.
  params = {
    "v": np.array([1.0, 0.0], np.float32),
    "theta": np.array([[np.log(3.0), 0.0], [0.0, 0.0]], np.float32),
  }
  replicas = parallel.replicas(devices, lift)
  return listening.listen(goal, replicas, 4, ({}, params, ({}, {})), data)


@pytest.mark.parametrize(
  ("devices", "lift"), [(1, "pmap"), (4, "pmap"), (2, "jit")]
)
def test_by_hand(devices, lift):
  found = listen(latent.Adapter(2), devices, lift)
  np.testing.assert_array_equal(found.label, np.arange(10) % 3)
  student = np.log([0.5, 0.3, 0.2])
  teachers = np.log([[0.1, 0.7, 0.2], [0.6, 0.2, 0.2]])
  np.testing.assert_allclose(found.student, np.tile(student, (10, 1)), 1e-6)
  expected = np.tile(teachers[:, None], (1, 10, 1))
  np.testing.assert_allclose(found.teachers, expected, 1e-6)
  weights = np.tile([0.75, 0.25], (10, 1))
  np.testing.assert_allclose(np.exp(found.log_weights), weights, 1e-6)


def test_an_adapter_that_needs_labels_has_no_weights_here():
  assert listen(confidence.Adapter(2), 1).log_weights is None


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
  """A finished run on blobs, as the case study makes one."""
  folder = tmp_path_factory.mktemp("run")
  settings = quick(teacher__epochs=1, devices=2, terms__hint=0.0, method="gate")
  return settings, folder, case_study.run(settings, folder, View())


def test_a_run_says_the_same_as_its_evaluation(studied):
  settings, folder, summary = studied
  training = commands.restored(settings, folder, View())
  test = training.plan.splits.test
  found = listening.of_run(training, test)
  assert found.teachers.shape == (2, 60, 3)
  hit = found.student.argmax(-1) == test.label
  assert hit.mean() == pytest.approx(summary["student"]["test_accuracy"])
  own = np.asarray([t["test_accuracy"] for t in summary["teachers"].values()])
  np.testing.assert_allclose(
    (found.teachers.argmax(-1) == test.label).mean(1), own
  )
  np.testing.assert_allclose(
    np.exp(found.log_weights).mean(0), list(summary["weights"].values()), 1e-5
  )
  # Images stand in their order: batches and devices leave no trace.
  model = training.plan.stages[0].objective.student
  said = model.predict(training.state.student, test.image).logits
  np.testing.assert_allclose(found.student, said, rtol=1e-4, atol=1e-5)


def test_a_case_study_is_small_and_of_single_images(studied):
  _, _, summary = studied
  case = summary["case"]
  assert [line["images"] for line in case["by_class"]] == [20, 20, 20]
  for line in case["by_class"]:
    assert sum(line["weights"]) == pytest.approx(1.0)
  together = np.mean([line["weights"] for line in case["by_class"]], axis=0)
  np.testing.assert_allclose(together, list(summary["weights"].values()), 1e-5)
  cells = {"gate": [{"seed": 0, "result": summary}], "amtml": []}
  tables = case_study.tabulate(cells)
  assert [t.wrong() for t in tables] == [None, None]
  assert [len(t.rows) for t in tables] == [2, 3]
  assert next(iter(case_study.draw(cells))).startswith("gate: ")


def test_several_students_are_refused(studied):
  settings, folder, _ = studied
  training = commands.restored(settings, folder, View())
  training.plan.run = type("Run", (), {"seeds": 2})
  with pytest.raises(UserError, match="=2 students say different"):
    listening.of_run(training, training.plan.splits.test)


def test_a_run_that_is_not_there_is_one_sentence(tmp_path):
  with pytest.raises(UserError, match="there is no run in --workdir"):
    commands.restored(quick(), tmp_path, View())
