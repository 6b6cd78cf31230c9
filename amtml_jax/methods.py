"""The methods to compare: each a weighting of teachers and weighted terms.

SPEC, section 5. "ratio" stands for λ and "rest" for 1-λ; a weight that a config
gives itself wins.
"""

from typing import Any

_KD = {"cross_entropy": "rest", "kd": "ratio"}
METHODS: dict[str, dict[str, Any]] = {
  "alone": dict(adapter="uniform", terms={"cross_entropy": 1.0}),
  "okd": dict(adapter="single", terms=_KD),
  "at": dict(adapter="single", terms={**_KD, "attention": 1.0}),
  "rkd": dict(adapter="single", terms={**_KD, "distance": 1.0, "angle": 2.0}),
  "avgmkd": dict(adapter="uniform", terms=_KD),
  "ebkd": dict(adapter="entropy", terms=_KD),
  "amtml": dict(adapter="latent", terms={**_KD, "angle": 1.0, "hint": 1.0}),
}
