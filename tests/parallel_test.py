"""However many devices and processes, however lifted: the same training."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from amtml_jax import commands, parallel
from amtml_jax.errors import UserError
from amtml_jax.progress import View
from tests import quick_compile
from tests.everything import EVERYTHING, train
from tests.settings import blobs

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def double():
  with jax.enable_x64(True):
    yield


@pytest.fixture(scope="module")
def taught(double, tmp_path_factory):
  """Two teachers, and the folder of their ensemble."""
  folder = tmp_path_factory.mktemp("teach")
  teachers = commands.teach(blobs(**EVERYTHING), folder, View())
  return teachers, folder / "ensemble"


@pytest.fixture(scope="module")
def alone(taught, tmp_path_factory):
  folder = tmp_path_factory.mktemp("alone")
  return train(taught[0], folder, devices=1)


def assert_same(leaves, loss, alone):
  for a, b in zip(alone[0], leaves, strict=True):
    assert a.dtype == b.dtype == np.float64
    scale = np.max(np.abs(a))
    np.testing.assert_allclose(b, a, rtol=0, atol=1e-9 * scale)
  np.testing.assert_allclose(loss, alone[1], rtol=1e-9)


@pytest.mark.parametrize(
  ("devices", "lift"), [(1, "jit"), (2, "pmap"), (4, "pmap"), (4, "jit")]
)
def test_the_same_training(devices, lift, alone, taught, tmp_path):
  assert_same(
    *train(taught[0], tmp_path, devices=devices, parallel=lift), alone
  )


# jax.distributed catches SIGTERM: whoever kills the tests leaves nothing.
RUN = """
import ctypes, runpy, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def start(devices, *args, cache=None):
  """A Python of its own with so many fake devices and this process's cache."""
  cache = cache or jax.config.jax_compilation_cache_dir
  env = {
    **{k: v for k, v in os.environ.items() if k != "NPROC"},
    "JAX_ENABLE_X64": "1",
    "JAX_COMPILATION_CACHE_DIR": str(cache),
    "XLA_FLAGS": f"{quick_compile.FLAGS} "
    f"--xla_force_host_platform_device_count={devices}",
  }
  return subprocess.Popen(
    [sys.executable, "-c", RUN, *map(str, args)],
    cwd=ROOT,
    env=env,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def ended(*processes, code=0, seconds=400):
  """What they print; none is left, whatever happens."""
  try:
    out = [p.communicate(timeout=seconds)[0] for p in processes]
  finally:
    for process in processes:
      process.kill()
  assert [p.returncode for p in processes] == [code] * len(out), "\n".join(out)
  return out


def free_port():
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    return probe.getsockname()[1]


def test_eight_devices(alone, taught, tmp_path):
  worker = start(8, "tests.everything", tmp_path, taught[1], "pmap,jit")
  ended(worker)
  for lift in ("pmap", "jit"):
    assert_same(*loaded(tmp_path / f"{lift}-0.npz"), alone)


def test_two_processes(alone, taught, tmp_path):
  coordinator = f"localhost:{free_port()}"
  args = ("tests.everything", tmp_path, taught[1], "pmap,jit", coordinator, 2)
  cache = tmp_path / "cache"
  ended(*(start(1, *args, index, cache=cache) for index in range(2)))
  # What one would load, the other would compile: not the same program.
  assert not list(tmp_path.glob("cache/*"))
  for lift in ("pmap", "jit"):
    for index in range(2):
      assert_same(*loaded(tmp_path / f"{lift}-{index}.npz"), alone)


def loaded(path):
  with np.load(path) as file:
    count = len(file.files) - 1
    return [file[f"arr_{i}"] for i in range(count)], file["loss"]


CONFIG = """
from tests.settings import blobs

def get_config():
  return blobs(method="alone", epochs=9000, checkpoint_every=9000, keep=1)
"""


def two_commands(config, run, *more, module="amtml_jax.cli"):
  """Both processes of a command, once they train."""
  args = (
    *(1, module, "distill", f"--config={config}"),
    *(f"--workdir={run}", "--num_processes=2", *more),
    f"--coordinator=localhost:{free_port()}",
  )
  log = run / "metrics.jsonl"
  before = log.stat().st_size if log.exists() else 0
  both = [start(*args, f"--process_id={index}") for index in range(2)]
  for _ in range(1000):
    if (log.exists() and log.stat().st_size > before) or both[0].poll():
      break
    time.sleep(0.1)
  return both


def test_a_signal_stops_all_processes_and_a_death_ends_them(tmp_path):
  config, run = tmp_path / "mine.py", tmp_path / "run"
  config.write_text(CONFIG)
  both = two_commands(config, run)
  both[1].send_signal(signal.SIGTERM)
  out = ended(*both, code=75)
  assert "2 processes x 1 device (cpu), pmap, batch 36 = 2 x 18" in out[0]
  stopped = re.search(r"stopped at step (\d+) of 27000 and saved", out[0])
  # One process writes to the terminal; the other one's library says hello.
  assert [n for n in out[1].splitlines() if not n.startswith("[Gloo]")] == []
  assert [p.name for p in (run / "checkpoints").iterdir()] == [stopped[1]]

  # In the middle of saves, which fail then too: no reason to blame the disk.
  more = ("--config.checkpoint_steps=1",)
  both = two_commands(config, run, *more, module="tests.hasty")
  both[1].kill()
  out = ended(both[0], code=75)
  ended(both[1], code=-signal.SIGKILL)
  assert "another process of this run is gone" in out[0]
  assert "Traceback" not in out[0]


def test_a_full_disk_of_one_process_ends_all(tmp_path):
  config, run = tmp_path / "mine.py", tmp_path / "run"
  config.write_text(CONFIG)
  more = ("--config.checkpoint_steps=9",)
  both = two_commands(config, run, *more, module="tests.filling")
  out = [ended(p, code=c)[0] for p, c in zip(both, (1, 75), strict=True)]
  assert "could not be written" in out[0]
  assert "File too large" in out[0]
  assert "Traceback" not in out[0] + out[1]
  kept = [p.name for p in (run / "checkpoints").iterdir() if p.name.isdigit()]
  assert kept


def test_more_devices_than_there_are():
  with pytest.raises(UserError, match=r"devices=5, but this machine has 4"):
    parallel.replicas(5)
