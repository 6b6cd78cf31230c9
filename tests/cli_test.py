"""The edges of the command: exit codes, one sentence, nothing written."""

import gzip
import json
import subprocess
import sys

import pytest

from amtml_jax import cli

CONFIG = """
from tests.settings import blobs

def get_config(text=""):
  return blobs(epochs=1, teacher__epochs=1)
"""


@pytest.fixture
def config(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(CONFIG)
  return path


def amtml(*args):
  return cli.main(["amtml", *map(str, args)])


def test_run_from_a_config_file_of_ones_own(config, tmp_path, capsys):
  code = amtml(
    "run",
    f"--config={config}",
    f"--workdir={tmp_path / 'run'}",
    "--config.optimizer.learning_rate=0.05",
    "--config.teachers=('a=mlp_small',)",
    "--config.adapter.name=uniform",
    "--config.batch_size=12",
    "--profile",
  )
  assert code == 0
  summary = json.loads((tmp_path / "run" / "summary.json").read_text())
  assert summary["config"]["optimizer"]["learning_rate"] == 0.05
  assert list(summary["teachers"]) == ["a"]
  out = capsys.readouterr().out
  assert "teacher a" in out
  assert "ensemble, adaptive" in out
  assert f"written: {tmp_path / 'run' / 'summary.json'}" in out
  # The student's third to ninth step; then the first evaluation ends the trace.
  (trace,) = (tmp_path / "run/profile/mlp_small").rglob("perfetto_trace.*")
  events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
  assert [e.get("name") for e in events].count("mlp_small") == 7
  assert f"traced: {tmp_path / 'run/profile/mlp_small'}" in out


STOPPED = """
import os, signal, sys
from amtml_jax import cli, commands

commands.distill = lambda *_: os.kill(os.getpid(), signal.SIGTERM)
sys.exit(cli.main(sys.argv))
"""


def test_a_scheduler_may_stop_it_anywhere(config, tmp_path):
  done = subprocess.run(
    [
      *(sys.executable, "-c", STOPPED, "distill"),
      *(f"--config={config}", f"--workdir={tmp_path / 'run'}"),
    ],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 75
  assert done.stderr == "amtml: stopped at once; what was saved is whole\n"


WRONG = {
  "what is not a command": (["teech"], "no command 'teech'"),
  "no config": (["run", "--workdir={new}"], "needs --config"),
  "no workdir": (["run", "--config={config}"], "needs --workdir"),
  "a config that is not there": (
    ["run", "--config=digit", "--workdir={new}"],
    "no config 'digit': neither a file nor one of cifar, digits",
  ),
  "a value of no config": (
    ["run", "--config.epochs=1", "--workdir={new}"],
    "--config.epochs=1 needs --config=FILE beside it",
  ),
  "a value that no flag's type refuses": (
    ["run", "--config={config}", "--workdir={new}", "--config.teachers=5"],
    "config.teachers=(5,) must be a tuple, each of it a line of text",
  ),
  "a section that lacks a key": (
    ["run", "--config={config}", "--workdir={new}", "--config.kd={{}}"],
    "config.kd.per_class is missing; a config starts from amtml_jax.defaults",
  ),
  "an unknown key": (
    ["run", "--config={config}", "--workdir={new}", "--config.optimzer.ema=1"],
    "config has no key 'optimzer'; known: adapter, ",
  ),
  "an unknown inner key": (
    ["run", "--config={config}", "--workdir={new}", "--config.kd.tau=1"],
    "config.kd has no key 'tau'; known: per_class, ratio, temperature",
  ),
  "a wrong type": (
    ["run", "--config={config}", "--workdir={new}", "--config.epochs=two"],
    "--config.epochs=two",
  ),
  "an unknown argument of a config": (
    ["run", "--config=digits:lables=1", "--workdir={new}"],
    "--config=digits:lables=1: no argument 'lables'; known: labels, method",
  ),
  "an unknown flag": (
    ["run", "--config={config}", "--workdir={new}", "--wrokdir=x"],
    "Unknown command line flag 'wrokdir'",
  ),
  "a model that is not there": (
    ["run", "--config={config}", "--workdir={new}", "--config.student=vgg"],
    "no model called 'vgg'; known: alexnet, cnn,",
  ),
  "an adapter that is not there": (
    ["run", "--config={config}", "--workdir={new}", "--config.adapter.name=x"],
    "no adapter called 'x'; known: confidence, entropy, gate, latent, log_gate",
  ),
  "a data source that is not there": (
    ["run", "--config={config}", "--workdir={new}", "--config.data.source=x"],
    "no data source called 'x'; known: digits, idx, ",
  ),
  "a stage that the student lacks": (
    [
      "run",
      "--config={config}",
      "--workdir={new}",
      "--config.hint.mapping=1,9",
    ],
    "asks for group 9, which the network lacks",
  ),
  "a mapping for another number of teachers": (
    ["run", "--config={config}", "--workdir={new}", "--config.hint.mapping=1"],
    "has 1 entries for 2 teachers",
  ),
  "a batch that does not divide": (
    ["run", "--config={config}", "--workdir={new}", "--config.batch_size=30"],
    "batch of 30 does not divide over 4 devices",
  ),
  "a folder that is not there": (
    [
      "run",
      "--config=fashion_mnist",
      "--workdir={new}",
      "--config.data.folder=/nowhere",
    ],
    "there is no folder /nowhere",
  ),
  "a workdir that cannot be written": (
    ["run", "--config={config}", "--workdir=/proc/run"],
    "--workdir=/proc/run is not writable",
  ),
  "an ensemble that is not there": (
    ["distill", "--config={config}", "--workdir={new}"],
    "no ensemble in",
  ),
  "nothing to evaluate": (
    ["evaluate", "--config={config}", "--workdir={new}"],
    "there is no run in",
  ),
  "an adapter that nothing trains": (
    [
      "run",
      "--config={config}",
      "--workdir={new}",
      "--config.terms.kd=0",
      "--config.terms.hint=0",
    ],
    "no term of the loss reaches adapter/theta",
  ),
  "a teacher's batch that does not divide": (
    [
      "run",
      "--config={config}",
      "--workdir={new}",
      "--config.teacher.batch_size=30",
    ],
    "set config.teacher.batch_size to a multiple of 4",
  ),
  "a Huber loss without a bend": (
    ["run", "--config={config}", "--workdir={new}", "--config.angle.delta=0"],
    "config.angle.delta=0.0 must be a number above 0",
  ),
  "a negative seed": (
    ["run", "--config={config}", "--workdir={new}", "--config.hint.seed=-1"],
    "config.hint.seed=-1 must be a whole number of at least 0",
  ),
  "a config apart from its flag": (
    ["run", "--config", "digit", "--workdir={new}"],
    "no config 'digit'",
  ),
  "a teacher twice": (
    [
      "run",
      "--config={config}",
      "--workdir={new}",
      "--config.teachers=('cnn', 'cnn')",
    ],
    "config.teachers names 'cnn' twice",
  ),
  "double precision that is off": (
    ["run", "--config={config}", "--workdir={new}", "--config.dtype=float64"],
    "config.dtype=float64 needs JAX_ENABLE_X64=1",
  ),
  "a data set that cannot be prepared": (
    ["prepare", "x"],
    "cannot prepare 'x'",
  ),
  "nothing to measure": (["bench", "--rounds=2"], "bench needs --config"),
  "an image that is none": (
    ["bench", "--config={config}", "--image=32x32"],
    "--image=32x32 must be HEIGHTxWIDTHxCHANNELS, such as 32x32x3",
  ),
  "a class alone": (
    ["bench", "--config={config}", "--classes=1"],
    "--classes=1 must be a whole number of at least 2",
  ),
  "a piece that is not there": (
    ["bench", "--config={config}", "--only=angel"],
    "--only=angel is none of kd, angle, hint",
  ),
  "a piece without teachers": (
    ["bench", "--config={config}", "--only=kd", "--config.method=alone"],
    "--only=kd needs teachers, and config.method=alone has none",
  ),
  "a trace without a folder": (
    ["bench", "--config={config}", "--profile"],
    "--profile needs --workdir",
  ),
  "nothing to prepare": (["prepare"], "needs a data set's name first"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_sentence_and_writes_nothing(
  name, config, tmp_path, capsys
):
  args, message = WRONG[name]
  new = tmp_path / "new"
  assert amtml(*(a.format(config=config, new=new) for a in args)) == 2
  out, err = capsys.readouterr()
  assert message in err
  assert err.startswith("amtml: ")
  assert err.count("\n") == 1
  assert out == ""
  assert not new.exists() or list(new.iterdir()) == []


@pytest.mark.parametrize(
  ("text", "message"),
  [
    (
      "x = 1\ndef get_config(:",
      "SyntaxError: invalid syntax (mine.py, line 2)",
    ),
    ("x = 1", "its function get_config() is missing; return amtml_jax."),
    ("def get_config():\n  return {}", "get_config() gives no ConfigDict"),
    (
      "def get_config():\n  return 1 / 0",
      "division by zero ({config}, line 2)",
    ),
    ("open('/nowhere')", "No such file or directory: '/nowhere' ({config}, "),
    ("import sys\nsys.exit(0)", "SystemExit: 0 ({config}, line 2)"),
    (
      "def get_config(a, b):\n  pass",
      "missing 2 required positional arguments",
    ),
    (f"{CONFIG}\nc = get_config()\nc.epochs = 'two'", "{config}, line 8)"),
    (
      "from amtml_jax.defaults import defaults as get_config\n\0",
      "null bytes",
    ),
  ],
)
def test_a_config_file_that_gives_none(text, message, config, tmp_path, capsys):
  config.write_text(text)
  workdir = tmp_path / "new"
  assert amtml("run", f"--config={config}", f"--workdir={workdir}") == 2
  err = capsys.readouterr().err
  assert err.startswith(f"amtml: --config={config}: ")
  assert message.format(config=config) in err
  assert err.count("\n") == 1
  assert not workdir.exists()


def test_list_names_everything(capsys):
  assert amtml("list") == 0
  out = capsys.readouterr().out
  known = "resnet110_slim latent angle idx amtml cifar ablation"
  for name in known.split():
    assert name in out.split()


def test_help_names_every_command(capsys):
  assert amtml() == 0
  out = capsys.readouterr().out
  commands = "run teach distill evaluate sweep report bench prepare list"
  for command in commands.split():
    assert f"\n  {command} " in out
