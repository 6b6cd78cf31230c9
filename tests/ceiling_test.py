"""What teachers can be weighed by: fitted where it can be seen, and by hand."""

import numpy as np

from experiments import ceiling

LABEL = np.tile([0, 1], 640)
# Either teacher is right about its own class, and unsure about the other, as
# who is asked can see; even weights go by the surer one, and that is wrong.
RIGHT, UNSURE = [3.0, 0.0, -3.0], [0.0, 0.0, 2.0]
LOGITS = np.asarray(
  [
    [RIGHT if label == 0 else UNSURE for label in LABEL],
    [[0.0, 3.0, -3.0] if label == 1 else UNSURE for label in LABEL],
  ],
  np.float32,
)


def test_weights_are_fitted_to_who_is_right():
  weights = ceiling._fitted(LOGITS, LABEL, 0)(LOGITS)
  np.testing.assert_allclose(weights.sum(axis=0), 1.0, rtol=1e-5)
  knows = np.stack([LABEL == 0, LABEL == 1])
  assert weights[knows].min() > 0.9
  assert ceiling._accuracy(LOGITS, weights, LABEL) == 1.0


def test_accuracy_of_a_mixture_by_hand():
  # Probabilities 3/4 and 1/4 beside 2/5 and 3/5: 1.15 to 0.85, or 0.55 to 0.7
  # where the first counts a fifth.
  logits = np.log([[[3.0, 1.0]] * 2, [[2.0, 3.0]] * 2])
  weights = np.asarray([[1.0, 0.2], [1.0, 1.0]])
  assert ceiling._accuracy(logits, weights, np.asarray([0, 1])) == 1.0
  assert ceiling._accuracy(logits, weights, np.asarray([0, 0])) == 0.5


def test_the_way_by_hand():
  results = {
    f"ceiling 0.97 {trio}": [
      {"seed": 0, "result": dict.fromkeys(ceiling.LOOKS, 0.8) | found}
    ]
    for trio, found in enumerate(
      ({"oracle": 0.9, "own": 0.82}, {"oracle": 0.9})
    )
  }
  (table,) = ceiling.tabulate(results)
  rows = {row[0]: row[1:] for row in table.rows}
  # 2 points of 10, and none.
  assert rows[ceiling.LOOKS["own"]] == ("81.00 ± 1.41", "10.0 ± 14.1")
  assert rows[ceiling.LOOKS["oracle"]] == ("90.00 ± 0.00", "100.0 ± 0.0")
  assert rows[ceiling.LOOKS["even"]] == ("80.00 ± 0.00", "0.0 ± 0.0")


def test_without_results_nothing_is_said():
  (table,) = ceiling.tabulate({"ceiling 0.97 0": []})
  assert {row[1:] for row in table.rows} == {(None, None)}
