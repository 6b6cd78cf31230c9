"""What tuning.py chose, by data set: overrides of each method's preset."""

TUNED: dict[str, dict[str, dict[str, float]]] = {}
