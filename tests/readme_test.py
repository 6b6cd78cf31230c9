"""The README's Python runs, and its commands are the ones that CI runs."""

import pathlib
import re

import pytest

from amtml_jax import cli
from experiments import result_tables

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_the_examples_run(code, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  names = {}
  exec(compile(code, "README.md", "exec"), names)  # our own file
  assert "loss" in names


def test_ci_runs_the_test_command():
  commands = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
  assert ".venv/bin/amtml run --config=" in commands[0]
  test = commands[1].strip()
  assert test.endswith(".venv/bin/pytest")
  assert test in (ROOT / ".ci" / "run").read_text()


def test_its_tables_are_those_of_the_results():
  fix = "run python experiments/result_tables.py"
  assert result_tables.filled(README) == README, fix
  assert result_tables.ALL.read_text() == result_tables.every(), fix


def test_nothing_is_left_to_fill_in():
  assert "@@" not in README


def test_every_flag_and_config_it_names_is_there():
  for name in re.findall(r"--config=(?:configs/)?([a-z_0-9]+)", README):
    assert name in cli.configs(), name
