"""Half a compiled program, as a kill leaves one, is written anew."""

import subprocess
import sys

CODE = """
import pathlib, sys, warnings
import jax
from amtml_jax import compile_cache

jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
compile_cache.use()

def sizes():
  jax.clear_caches()
  jax.jit(lambda x: x + 1, inline=False)(1.0)
  found = pathlib.Path(sys.argv[1]).glob("jit__lambda*-cache")
  return {path: path.stat().st_size for path in found}

before = sizes()
assert before
for path, size in before.items():
  path.write_bytes(path.read_bytes()[: size // 2])
after = sizes()
assert after.keys() == before.keys()
# The seconds of compiling are in it, and compress as they will.
assert all(after[path] > 0.9 * size for path, size in before.items()), after
warnings.warn("another")
"""


def test_a_damaged_program_is_compiled_and_kept_again(tmp_path):
  done = subprocess.run(
    [sys.executable, "-c", CODE, str(tmp_path)],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert "another" in done.stderr
  assert "Error reading" not in done.stderr
