"""Four fake CPU devices, strict promotion, a compilation cache between runs."""

import os
import pathlib
import tempfile

from amtml_jax import fake_devices
from tests import quick_compile

os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "")
  + f" --xla_force_host_platform_device_count=4 {quick_compile.FLAGS}"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
fake_devices.make_room()
CACHE = pathlib.Path(tempfile.gettempdir()) / f"amtml_jax_tests-{os.getuid()}"

import jax  # noqa: E402  (the flags above must be set first)
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture
def x64():
  """Runs one test in double precision."""
  with jax.enable_x64(True):
    yield
