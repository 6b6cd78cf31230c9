"""Damages configs, data and workdirs at random; each must end in one sentence.

    python experiments/damage_campaign.py --cases=300

Every damage is certainly wrong, so the command must exit with 2 and one line
that names what is damaged, and leave every file as it was. hypothesis (of the
`tests` extra) draws the damages and shrinks one that does worse. Prints how
many were tried of each kind; exits with 1 where one failed.
"""

import contextlib
import hashlib
import io
import json
import pathlib
import shutil
import struct
import sys
import tempfile
import time
import traceback
import zipfile

import hypothesis
import numpy as np
from absl import flags

from amtml_jax import cli
from amtml_jax.experiments.damages import KINDS, Damage

CONFIG = """
import pathlib
from amtml_jax.defaults import defaults

def get_config(text=""):
  c = defaults()
  c.method, c.student = "avgmkd", "mlp_small"
  c.teachers = ("a=mlp_small", "b=mlp_small")
  c.epochs = c.teacher.epochs = 1
  c.batch_size = c.teacher.batch_size = 12
  c.data.source, c.data.pad = "npz", 0
  c.data.folder = str(pathlib.Path(__file__).parent / "data.npz")
  return c
"""
IDX = {
  f"{split}-{what}-ubyte": f"{name}_{array}"
  for split, name in (("train", "train"), ("t10k", "test"))
  for what, array in (("images-idx3", "images"), ("labels-idx1", "labels"))
}


def amtml(*args: str) -> tuple[int, str, str]:
  """The command in this process: exit code, output, errors."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    code = cli.main(["amtml", *args])
  return code, out.getvalue(), err.getvalue()


def build(scene: pathlib.Path) -> pathlib.Path:
  """A folder with a config, data in three formats, and a finished small run."""
  scene.mkdir()
  (scene / "config.py").write_text(CONFIG)
  rng = np.random.default_rng(0)
  arrays = {}
  for split, rows in (("train", 36), ("test", 6)):
    images = rng.integers(0, 256, (rows, 4, 4, 1), dtype=np.uint8)
    arrays |= {
      f"{split}_images": images,
      f"{split}_labels": np.arange(rows) % 3,
    }
  np.savez(scene / "data.npz", **arrays)
  (scene / "npy").mkdir()
  for name, array in arrays.items():
    np.save(scene / "npy" / f"{name}.npy", array)
  (scene / "idx").mkdir()
  for name, key in IDX.items():
    x = arrays[key][..., 0] if arrays[key].ndim == 4 else arrays[key]
    head = struct.pack(f">4B{x.ndim}I", 0, 0, 8, x.ndim, *x.shape)
    (scene / "idx" / name).write_bytes(head + x.astype(np.uint8).tobytes())
  config, workdir = scene / "config.py", scene / "run"
  code, _, err = amtml("run", f"--config={config}", f"--workdir={workdir}")
  if code:
    raise RuntimeError(f"the run to be damaged failed: {err}")
  return scene


def snapshot(folder: pathlib.Path) -> dict[str, str]:
  """Every path below, but a lock, with the hash of its bytes."""
  return {
    str(path.relative_to(folder)): "a folder"
    if path.is_dir()
    else hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(folder.rglob("*"))
    if path.name != ".lock" and "__pycache__" not in path.parts
  }


def fault(damage: Damage, scene: pathlib.Path) -> str | None:
  """What is wrong with how a damage ended."""
  with tempfile.TemporaryDirectory() as folder:
    copy = pathlib.Path(folder) / "scene"
    shutil.copytree(scene, copy)
    for name, pattern, *arguments in damage.edits:
      # The largest of several: it holds the weights.
      found = sorted(copy.glob(pattern), key=lambda p: p.stat().st_size)
      EDITS[name](found[-1], *arguments)
    before = snapshot(copy)
    args = [flag.replace("@", str(copy)) for flag in damage.flags]
    try:
      code, out, err = amtml(
        damage.command,
        f"--config={copy / 'config.py'}",
        f"--workdir={copy / damage.workdir}",
        *args,
      )
    except BaseException:  # what should have been a sentence
      return traceback.format_exc()
    after = snapshot(copy)
  after.pop("new", None)
  changed = {p for p in {**before, **after} if before.get(p) != after.get(p)}
  one = err.startswith("amtml: ") and err.count("\n") == 1 and err[-1] == "\n"
  named = any(name in err for name in damage.names)
  if code == 2 and one and named and not changed and "Traceback" not in out:
    return None
  said = f"exit code {code}, changed {sorted(changed)}\n{out[-2000:]}\n{err}"
  return f"{said}\nwanted: exit code 2 and one line with {damage.names}"


def _edit_bytes(change):
  return lambda path, *args: path.write_bytes(change(path.read_bytes(), *args))


def _flip(data: bytes, place: int, mask: int) -> bytes:
  return data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


def _remove(path: pathlib.Path) -> None:
  if path.is_dir():
    shutil.rmtree(path)
  else:
    path.unlink()


def _folder(path: pathlib.Path) -> None:
  path.unlink()
  path.mkdir()


def _swap(path: pathlib.Path, pattern: str) -> None:
  other = next(path.parent.glob(pattern))
  aside = path.with_name("aside")
  path.rename(aside)
  other.rename(path)
  aside.rename(other)


def _json(path: pathlib.Path, key: str, *value: object) -> None:
  """Sets a value under a dotted key, or takes the key away."""
  whole = at = json.loads(path.read_text())
  *above, last = [int(k) if k.isdigit() else k for k in key.split(".")]
  for inner in above:
    at = at[inner]
  if value:
    at[last] = value[0]
  else:
    del at[last]
  path.write_text(json.dumps(whole))


def _npz(path: pathlib.Path, name: str, expression: str) -> None:
  """An array becomes an expression of itself, x; nothing takes it away."""
  with np.load(path) as file:
    arrays = dict(file)
  x = arrays.pop(name, None)
  if expression:
    arrays[name] = eval(expression, {"np": np, "x": x})  # from below
  np.savez(path, **arrays)


def _member(data: bytes, member: int, share: float, mask: int) -> bytes:
  """Flips bits inside one of a zip's files, where a checksum covers them."""
  info = zipfile.ZipFile(io.BytesIO(data)).infolist()[member]
  lengths = struct.unpack_from("<2H", data, info.header_offset + 26)
  start = info.header_offset + 30 + sum(lengths)
  return _flip(data, start + int(share * (info.compress_size - 1)), mask)


def _header(path: pathlib.Path, shape: tuple) -> None:
  """An array whose header promises another shape, in a whole zip."""
  with zipfile.ZipFile(path) as file:
    parts = {name: file.read(name) for name in file.namelist()}
  with zipfile.ZipFile(path, "w") as file:
    for name, part in {**parts, "train_images.npy": _head(shape)}.items():
      file.writestr(name, part)


def _head(shape: tuple) -> bytes:
  head = io.BytesIO()
  header = {"descr": "|u1", "fortran_order": False, "shape": shape}
  np.lib.format.write_array_header_1_0(head, header)
  return head.getvalue()


EDITS = {
  "code": _edit_bytes(
    lambda data, lines: data.replace(b"  return c", lines.encode())
  ),
  "cut": _edit_bytes(lambda data, share: data[: int(share * (len(data) - 2))]),
  "flip": _edit_bytes(_flip),
  "folder": _folder,
  "header": _header,
  "invert": _edit_bytes(lambda data: bytes(255 - b for b in data)),
  "json": _json,
  "member": _edit_bytes(_member),
  "npz": _npz,
  "remove": _remove,
  "shape": lambda path, shape: path.write_bytes(_head(shape)),
  "swap": _swap,
  "text": lambda path, data: path.write_bytes(data),
}


def campaign(
  scene: pathlib.Path, kind: str, cases: int, seed: int
) -> tuple[int, str | None]:
  """Tries so many damages of a kind.

  Returns:
    How many were tried, and the smallest that ended badly, with how.
  """
  tried, bad = 0, None

  @hypothesis.seed(seed)
  @hypothesis.settings(
    max_examples=cases,
    database=None,
    deadline=None,
    phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(KINDS[kind])
  def case(damage: Damage) -> None:
    nonlocal tried, bad
    tried += 1
    found = fault(damage, scene)
    if found:
      bad = f"{damage}\n{found}"
    assert not found

  with contextlib.suppress(AssertionError):
    case()
  return tried, bad


def main() -> int:
  """Runs the campaign and prints what came of it."""
  # Here, as tests import this file beside others that have flags.
  cases = flags.DEFINE_integer("cases", 300, "how many damages, of all kinds")
  seed = flags.DEFINE_integer("seed", 0, "of the damages")
  flags.FLAGS(sys.argv)
  share, more = divmod(cases.value, len(KINDS))
  start, total, failed = time.monotonic(), 0, False
  with tempfile.TemporaryDirectory() as folder:
    scene = build(pathlib.Path(folder) / "scene")
    print(f"built in {time.monotonic() - start:.0f} s")
    for number, kind in enumerate(KINDS):
      count = share + (number < more)
      tried, bad = (
        campaign(scene, kind, count, seed.value) if count else (0, "")
      )
      print(f"{kind:16}{tried:5}  {'FAILED' if bad else 'ok'}", flush=True)
      if bad:
        print(bad)
      total, failed = total + tried, failed or bool(bad)
  print(f"{total} damages in {time.monotonic() - start:.0f} s")
  return int(failed)


if __name__ == "__main__":
  sys.exit(main())
