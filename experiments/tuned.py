"""What tuning.py chose, by data set: overrides of each method's preset."""

TUNED: dict[str, dict[str, dict[str, float]]] = {
  "fashion_mnist": {
    "okd": {"kd.temperature": 10.0, "kd.ratio": 0.5},
    "fitnet": {
      "kd.temperature": 10.0,
      "kd.ratio": 0.5,
      "terms.hint": 0.001,
    },
    "rkd": {
      "kd.temperature": 10.0,
      "kd.ratio": 0.5,
      "terms.angle": 1.0,
    },
    "avgmkd": {"kd.temperature": 5.0, "kd.ratio": 0.5},
    "ebkd": {"kd.temperature": 5.0, "kd.ratio": 0.5},
    "camkd": {"kd.temperature": 5.0, "kd.ratio": 0.5, "terms.hint": 0.001},
    "amtml_weights": {
      "kd.temperature": 2.0,
      "kd.ratio": 0.5,
      "adapter.learning_rate": 0.03,
    },
    "amtml_angle": {
      "kd.temperature": 2.0,
      "kd.ratio": 0.5,
      "adapter.learning_rate": 0.03,
      "terms.angle": 0.01,
    },
    "amtml_hint": {
      "kd.temperature": 2.0,
      "kd.ratio": 0.5,
      "adapter.learning_rate": 0.03,
      "terms.hint": 0.001,
    },
    "amtml": {
      "kd.temperature": 2.0,
      "kd.ratio": 0.5,
      "adapter.learning_rate": 0.03,
      "terms.angle": 0.01,
      "terms.hint": 0.001,
    },
    "amtml_mix": {
      "kd.temperature": 5.0,
      "kd.ratio": 0.5,
      "adapter.learning_rate": 0.1,
      "terms.angle": 0.1,
      "terms.hint": 0.001,
      "terms.mixture": 10.0,
    },
    "amtml_notebook": {
      "kd.temperature": 2.0,
      "kd.ratio": 0.5,
      "adapter.learning_rate": 0.03,
      "terms.angle": 0.01,
      "terms.hint": 0.001,
    },
    "gate": {
      "kd.temperature": 5.0,
      "kd.ratio": 0.5,
      "adapter.learning_rate": 0.1,
      "terms.mixture": 10.0,
      "adapter.evidence_temperature": 2.0,
    },
    "log_gate": {
      "kd.temperature": 5.0,
      "kd.ratio": 0.5,
      "adapter.learning_rate": 0.1,
      "terms.mixture": 10.0,
    },
  },
}
