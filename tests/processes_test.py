"""Finding the other processes: wrong flags, hosts and ports are sentences."""

import socket

import pytest

from amtml_jax import processes
from amtml_jax.errors import UserError


@pytest.mark.parametrize(
  ("flags", "sentence"),
  [
    (("localhost:1", "", "0"), "--num_processes missing"),
    (("localhost:1", "two", "0"), "--process_id=0 of --num_processes=two"),
    (("localhost:1", "2", "2"), "--process_id=2 of --num_processes=2"),
    (("localhost", "2", "0"), "must be HOST:PORT"),
    (("no such host:1", "2", "1"), "cannot be used"),
  ],
)
def test_wrong_flags_are_sentences(flags, sentence):
  with pytest.raises(UserError, match=sentence):
    processes.start(*flags)


def test_a_port_in_use_is_refused():
  with socket.socket() as other:
    other.bind(("", 0))
    other.listen()
    port = other.getsockname()[1]
    with pytest.raises(UserError, match="Address already in use"):
      processes.start(f"localhost:{port}", "2", "0")


@pytest.mark.parametrize(
  ("variables", "name"),
  [
    ({}, ""),
    ({"SLURM_STEP_NUM_TASKS": "1"}, ""),
    ({"SLURM_STEP_NUM_TASKS": "16"}, "SLURM"),
    ({"OMPI_COMM_WORLD_SIZE": "2"}, "Open MPI"),
    ({"KUBERNETES_SERVICE_HOST": "x"}, ""),
    (
      {"KUBERNETES_SERVICE_HOST": "x", "JOB_COMPLETION_INDEX": "0"},
      "Kubernetes",
    ),
  ],
)
def test_a_cluster_is_known_by_its_environment(variables, name, monkeypatch):
  for variable in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
    monkeypatch.delenv(variable, raising=False)
  for variable, value in variables.items():
    monkeypatch.setenv(variable, value)
  assert processes.cluster() == name
