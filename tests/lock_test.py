"""One run at a time in a workdir."""

import signal
import subprocess
import sys

import pytest

from amtml_jax import lock
from amtml_jax.errors import UserError

HOLD = """
import pathlib, sys, time
from amtml_jax import lock
with lock.held(pathlib.Path(sys.argv[1])):
  print("held", flush=True)
  time.sleep(60)
"""


def test_a_live_process_is_named_and_a_dead_one_forgotten(tmp_path):
  other = subprocess.Popen(
    [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE
  )
  with other:
    try:
      assert other.stdout.readline() == b"held\n"
      before = sorted(tmp_path.iterdir())
      with (
        pytest.raises(UserError, match=rf"in use by process {other.pid} on "),
        lock.held(tmp_path),
      ):
        pass
      assert sorted(tmp_path.iterdir()) == before
    finally:
      other.send_signal(signal.SIGKILL)
  with lock.held(tmp_path):
    assert [p.name for p in tmp_path.iterdir()] == [lock.FILE]
  assert list(tmp_path.iterdir()) == []


def test_who_holds_it_may_hold_it_again(tmp_path):
  folder = tmp_path / "new"
  with lock.held(folder):
    with lock.held(folder):
      pass
    assert (folder / lock.FILE).exists()
  assert not folder.exists()


def test_what_was_written_stays(tmp_path):
  folder = tmp_path / "new"
  with lock.held(folder):
    (folder / "result").touch()
  assert [p.name for p in folder.iterdir()] == ["result"]


def test_who_waits_for_a_turn_says_so_and_gets_it(tmp_path):
  other = subprocess.Popen(
    [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE
  )
  said = []

  def say(text):
    said.append(text)
    other.kill()

  with other:
    assert other.stdout.readline() == b"held\n"
    with lock.turn(tmp_path, say):
      assert len(said) == 1
  assert f"in use by process {other.pid} on " in said[0]
