"""Data walks one way; the code is formatted; nothing imports uphill."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
# From the bottom up; a file imports only from rows above its own.
LAYERS = (
  ("errors", "types", "precision", "checks", "methods", "usage"),
  ("loading", "provenance", "tables", "charts"),
  ("processes", "compile_cache", "determinism", "fake_devices"),
  ("files", "kept", "lock"),
  ("plugins", "parallel", "metrics", "progress", "interrupt", "profile"),
  ("defaults", "pooling", "pairwise", "dropout", "conv_norm", "gating"),
  ("triples", "near_legs", "repeated", "network", "classify"),
  ("runs",),
  ("config",),
  ("data.checked",),
  ("data.pictures",),
  ("data.pipeline", "data.splits"),
  ("data.index", "data.reader"),
  ("data.streamed",),
  ("data", "models", "adapters", "losses", "optimizer", "trees"),
  ("checkpoint",),
  ("data.prepare",),
  ("ensemble", "objective", "views", "agenda"),
  ("feed",),
  ("state", "workdirs"),
  ("step", "evaluate"),
  ("reachability",),
  ("plan",),
  ("hear", "train"),
  ("report", "listening"),
  ("commands", "experiment", "page"),
  ("results",),
  ("continued", "reporting"),
  ("sweep",),
  ("measure", "synthetic", "macs"),
  ("pieces",),
  ("bench",),
  ("cli",),
)
FILES = sorted((ROOT / "amtml_jax").rglob("*.py"))


def name_of(path):
  parts = path.relative_to(ROOT / "amtml_jax").with_suffix("").parts
  return ".".join(p for p in parts if p != "__init__")


def layer(name):
  for candidate in (name, name.split(".")[0]):
    for depth, row in enumerate(LAYERS):
      if candidate in row:
        return depth
  raise AssertionError(f"amtml_jax.{name} has no place in the layers")


def imports(path):
  """The package's own modules that a file imports."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module:
      full = [f"{node.module}.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.Import):
      full = [alias.name for alias in node.names]
    else:
      continue
    for module in full:
      parts = module.split(".")
      if parts[0] != "amtml_jax":
        continue
      while parts[1:] and not (
        ROOT.joinpath(*parts).with_suffix(".py").exists()
        or ROOT.joinpath(*parts, "__init__.py").exists()
      ):
        parts.pop()
      yield ".".join(parts[1:])


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_imports_only_from_above_its_own_work(path):
  name = name_of(path)
  if not name:
    assert list(imports(path)) == []
    return
  for module in imports(path):
    if not module or module == "configs":  # the folder itself
      continue
    same_folder = "." in name and module.startswith(name.split(".")[0] + ".")
    if same_folder and layer(module) == layer(name):
      raise AssertionError(f"{name} imports its neighbour {module}")
    assert layer(module) <= layer(name), f"{name} imports {module}"


def test_only_one_file_knows_about_devices():
  words = ("pmap", "psum", "pmean", "shard_map", "all_gather", "Mesh(")
  for path in FILES:
    if path.name == "parallel.py":
      continue
    code = ast.unparse(_without_docstrings(ast.parse(path.read_text())))
    for word in words:
      if word == "pmap" and path.name in ("runs.py", "defaults.py"):
        continue  # the name of the choice
      assert f"{word}" not in code, f"{path.name} says {word}"


def _without_docstrings(tree):
  for node in ast.walk(tree):
    if (
      isinstance(node, ast.Expr)
      and isinstance(node.value, ast.Constant)
      and isinstance(node.value.value, str)
    ):
      node.value = ast.Constant(value=None)
  return tree


@pytest.mark.parametrize("folder", ["configs", "experiments"])
def test_the_package_imports_no_experiment_and_configs_no_jax(folder):
  if folder == "configs":
    for path in (ROOT / "configs").glob("[!_]*.py"):
      code = "import sys, runpy; runpy.run_path(sys.argv[1]); "
      code += "assert 'jax' not in sys.modules"
      subprocess.run([sys.executable, "-c", code, str(path)], check=True)
  else:
    for path in FILES:
      assert "experiments" not in list(imports(path))


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_lint_and_format(command):
  ruff = [sys.executable, "-m", "ruff", *command, "--quiet", str(ROOT)]
  done = subprocess.run(ruff, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stdout + done.stderr
