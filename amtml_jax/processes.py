"""The processes of one run: how they meet, and which one writes.

Every process runs the same program on its own devices and its own copy of the
host's work. The first one alone writes files and speaks to the terminal.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import importlib.util
import os
import socket
import sys
import threading
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from amtml_jax.errors import LostProcessError, UserError

# How long a process waits for the others to start.
SECONDS = 120


def cluster() -> str:
  """What starts several processes here, as their environment tells; or ""."""
  sizes = {"SLURM_STEP_NUM_TASKS": "SLURM", "OMPI_COMM_WORLD_SIZE": "Open MPI"}
  for variable, name in sizes.items():
    if os.environ.get(variable, "1") not in ("", "1"):
      return name
  if {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= set(os.environ):
    return "Kubernetes"
  chips = glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")
  if chips and importlib.util.find_spec("libtpu"):
    return "TPU"  # of one host or more: its metadata say
  return ""


def start(coordinator: str = "", count: str = "", index: str = "") -> None:
  """Joins the other processes; before anything else asks for a device.

  Args:
    coordinator: `HOST:PORT` of process 0; empty where the cluster says it.
    count: of all processes.
    index: of this one.

  Raises:
    UserError: flags are missing or wrong, or the others do not come.
  """
  flags = {
    "--coordinator": coordinator,
    "--num_processes": count,
    "--process_id": index,
  }
  missing = [name for name, value in flags.items() if not value]
  if len(missing) == 3 and not cluster():
    return
  if missing and len(missing) < 3:
    raise UserError(
      f"{', '.join(missing)} missing: --coordinator=HOST:PORT, "
      "--num_processes=N and --process_id=I go together"
    )
  given = {}
  if not missing:
    if not (
      count.isdecimal() and index.isdecimal() and int(index) < int(count)
    ):
      raise UserError(
        f"--process_id={index} of --num_processes={count}: whole numbers, the "
        "first process being 0"
      )
    if not coordinator.rpartition(":")[2].isdecimal() or ":" not in coordinator:
      raise UserError(
        f"--coordinator={coordinator} must be HOST:PORT, process 0's host and "
        "a free port of it"
      )
    given = dict(
      coordinator_address=coordinator,
      num_processes=int(count),
      process_id=int(index),
      cluster_detection_method="deactivate",
    )
    _check_place(coordinator, first=index == "0")
  # jax's own end of waiting is an abort: ours comes before it.
  patience = threading.Timer(SECONDS, _give_up, [coordinator or cluster()])
  patience.daemon = True
  patience.start()
  # SIGTERM is ours (interrupt.py): the processes agree on a step themselves.
  jax.config.update("jax_enable_preemption_service", False)
  try:
    jax.distributed.initialize(**given, initialization_timeout=SECONDS + 60)
  except Exception as error:  # ValueError, RuntimeError, XlaRuntimeError
    reason = str(error).strip().splitlines()[0] if str(error) else "no reason"
    raise UserError(
      f"the processes did not find each other ({reason}); start all of them, "
      "and check --coordinator or the cluster's environment"
    ) from None
  finally:
    patience.cancel()
  if jax.default_backend() == "cpu":
    # The cache knows process 0's CPU only. What that one loads and the others
    # compile meet at their collectives in another order, and wait for ever.
    jax.config.update("jax_enable_compilation_cache", False)


def _check_place(coordinator: str, *, first: bool) -> None:
  """Refuses a host that is not known and a port that is not free."""
  host, _, port = coordinator.rpartition(":")
  try:
    if first:
      with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("", int(port)))
    else:
      socket.getaddrinfo(host, port)
  except (OSError, OverflowError) as error:
    raise UserError(
      f"--coordinator={coordinator} cannot be used "
      f"({getattr(error, 'strerror', None) or error}); name process 0's host "
      "and a free port of it, the same in every process"
    ) from None


def _give_up(where: str) -> None:
  sys.stderr.write(
    f"amtml: not all processes came to {where} within {SECONDS} seconds; start "
    "all of them, with the same --coordinator and --num_processes\n"
  )
  sys.stderr.flush()
  os._exit(2)


def several() -> bool:
  """Whether this run has more than one process."""
  return jax.distributed.is_initialized() and jax.process_count() > 1


def first() -> bool:
  """Whether this process writes files and speaks to the terminal."""
  return not several() or jax.process_index() == 0


def name() -> str:
  """What a message calls this process."""
  return f"process {jax.process_index()}"


@contextlib.contextmanager
def together() -> Iterator[None]:
  """Says in one sentence what jax raises when another process has died."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if not several():
      raise
    reason = str(error).strip().splitlines()[0][:200]
    raise LostProcessError(
      f"another process of this run is gone ({reason}); the same command in "
      "every process goes on from the last checkpoint"
    ) from None


def meet(where: str) -> None:
  """Waits until every process is here; `where` names the place."""
  if several():
    multihost_utils.sync_global_devices(where)


def agree(what: str, value: str) -> None:
  """Refuses processes that were given different things to do.

  Args:
    what: for the sentence.
    value: must be the same in every process.
  """
  if not several():
    return
  own = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)
  every = multihost_utils.process_allgather(own)
  others = [i for i, one in enumerate(every) if (one != every[0]).any()]
  if others:
    raise UserError(
      f"process {others[0]} was given another {what} than process 0; start "
      "every process with the same command, but for --process_id"
    )


def any_says(holds: bool) -> bool:
  """Whether any process says so; every process hears it, and all wait here."""
  if not several():
    return holds
  return bool(multihost_utils.process_allgather(np.int32(holds)).any())


def told(holds: bool) -> bool:
  """What the first process says, in every process."""
  if not several():
    return holds
  return bool(multihost_utils.broadcast_one_to_all(np.int32(holds)))
