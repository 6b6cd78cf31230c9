"""What makes XLA compile fast, and its programs slow: they run once here.

To optimise takes up to ten times as long as it saves, and the newer emitters
of fused loops up to four times as long as the older, which jaxlib 0.11.1 took
out: an option that XLA does not know ends the process.
"""

import importlib.metadata

OPTIONS: dict[str, int | bool] = {"xla_backend_optimization_level": 0}
_major, _minor, _patch = importlib.metadata.version("jaxlib").split(".")[:3]
if (int(_major), int(_minor), int(_patch)) < (0, 11, 1):
  OPTIONS["xla_cpu_use_fusion_emitters"] = False
FLAGS = " ".join(f"--{name}={str(v).lower()}" for name, v in OPTIONS.items())
