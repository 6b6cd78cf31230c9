"""Damages that are certainly wrong, by kind, as hypothesis draws them."""

import dataclasses
import pickle
from typing import Any

from hypothesis import strategies as st
from ml_collections import ConfigDict

from amtml_jax.defaults import defaults


@dataclasses.dataclass(frozen=True)
class Damage:
  """What is done to a scene, and what the sentence must then say.

  Attributes:
    names: one of them stands in the sentence.
    command: of amtml.
    workdir: `run`, the finished one, or `new`.
    flags: `@` stands for the scene's folder.
    edits: (a name in `damage_campaign.EDITS`, a file, its arguments ...).
  """

  names: tuple[str, ...]
  command: str
  workdir: str
  flags: tuple[str, ...] = ()
  edits: tuple[tuple, ...] = ()


# By a key's type: what a flag may not say, and what a config file may not.
FLAGS = {
  int: ("two", "-1", "1.5", "", "1e3", "9" * 30, "9" * 5000, "nan", "True"),
  float: ("x", "nan", "-inf", "-1", "1e999", "", "1e300", "1,5"),
  bool: ("maybe", "2", "", "None"),
  str: ("a\nb", "\0", "\x1b[0m"),
  tuple: ("5", "('a', 7)", "('a', 'a')", "x y", "(", "(None,)", "0.5, nan"),
  ConfigDict: ("3", "{}", "{'x': 1}", "", "(", "None"),
}
VALUES = {
  int: ("'x'", "-1", "1.5", "True", "10**400", "float('nan')", "{}", "None"),
  float: ("'x'", "-1", "True", "10**400", "float('inf')", "[]", "1j", "None"),
  bool: ("'yes'", "1", "0.0", "[]", "object()", "None"),
  str: ("3", "b'x'", "[1.5]", "'a\\nb'", "print", "{}", "None"),
  tuple: ("3", "[1, 'a']", "{}", "[None]", "{'a'}", "None"),
  ConfigDict: ("3", "'x'", "[]", "{}", "None"),
}
# The texts that may say anything; any other is a name.
TEXTS = (  # noqa: SIM905
  "data.folder data.name data.outputs ensemble hint.mapping hint.teacher_stage"
).split()
CONFIGS = (
  b"",
  b"\0\xff",
  b"def get_config(:\n",
  b"import no_such_module\n",
  b"raise OSError('a\\nb')\n",
  b"import sys\nsys.exit(0)\n",
  b"get_config = 3\n",
  b"def get_config(a, b): pass\n",
  b"def get_config(): return None\n",
  b"def get_config(): return {'epochs': 1}\n",
  b"def get_config(): return get_config()\n",
  b"def get_config(): raise KeyError('a\\nb')\n",
)
# What becomes of an array x; nothing takes it away.
IMAGES = (  # noqa: SIM905  (a line for each would be long)
  "; x.astype('int32'); x.astype('float32'); np.where(x > 9, np.nan, x / 255); "
  "np.where(x > 9, np.inf, x / 255); x.astype(str); x.astype(complex); "
  "x.astype(object); x > 9; x[:-1]; x[:0]; x[:, :0]; x.ravel(); x[..., None]"
).split("; ")
LABELS = (  # noqa: SIM905
  "; x - 1; x + 70_000; x.astype(float); x.astype(str); x.astype(object); "
  "x > 0; x[:-1]; x[:0]; x[:, None]; x[0]"
).split("; ")
CLASSES = ("np.arange(3)", "np.array(['a', 'b', 'a'])", "np.array('abc')")
SHAPES = ((36, 4, 4, 2), (10**15, 4, 4, 1), (10**30, 4, 4, 1), (-1, 4))
JSON = (b"", b"[]", b"null", b"3", b'"x"', b"{", b"\xff\xfe", b"[" * 20_000)
# Where a value of config.json stands that changes what a training ends with.
RUN = (  # noqa: SIM905
  "seed method student teachers batch_size dtype epochs terms terms.kd "
  "terms.kd.weight terms.kd.plugin adapter adapter.name adapter.l2 optimizer "
  "optimizer.milestones optimizer.nesterov data data.source data.validation "
  "data.flip data_fingerprint format"
).split()
# Where a value of summary.json stands that is read.
SUMMARY = (  # noqa: SIM905
  "student student.name student.test_accuracy student.parameters best "
  "best.step teachers teachers.a.parameters teachers.b.fingerprint ensemble "
  "teachers.b.test_cross_entropy ensemble.uniform.parameters run run.epochs "
  "run.method"
).split()
# By field of a manifest's entry: what may not stand there.
ENTRY = {
  "name": (3, None, "", "..", "x/y", "c", "a\nb"),
  "variant": (3, "", "no_such", "os.path", "mlp"),
  "classes": (None, [], "012", [0, 1, 2], ["0", "0", "1"], ["0", "1"]),
  "image_shape": (None, [4, 4], [4, 4, 0], [4, 4.5, 1], [8, 8, 1], [10**9] * 3),
  "mean": (None, [], [0.5, 0.5], [float("nan")], "x"),
  "std": (None, [], [0.0], [-1.0], [None]),
  "validation_accuracy": (None, float("nan"), -0.1, 1.5, "x", True),
  "test_accuracy": (None, float("inf"), -0.1, 2, []),
  "parameters": (None, -1, 1.5, "x"),
  "fingerprint": (None, "", "x", "0" * 64),
  "config": (None, [], {}, {"dtype": "int8"}),
}
FORMATS = (0, 1, 3, None, "2", True, 2.0, [2])
# Commands, and the workdirs in which they come to a damage of that kind.
ANY = tuple(
  (command, workdir)
  for command in ("run", "teach", "distill", "evaluate")
  for workdir in ("run", "new")
)
DATA = tuple(w for w in ANY if w not in ANY[5::2])
STUDENT = (("distill", "run"), ("evaluate", "run"))
SHARES, MASKS = st.floats(0, 0.99), st.integers(1, 255)


def _keys(section: ConfigDict, above: str = "") -> list[tuple[str, type, bool]]:
  """Every key, the type of its value, and whether it may be None."""
  found = []
  for name in section:
    key, kind = f"{above}{name}", section.get_type(name)
    found.append((key, kind, section[name] is None))
    if kind is ConfigDict:
      found += _keys(section[name], f"{key}.")
  return found


KEYS = _keys(defaults())
SECTIONS = ["", *(f"{key}." for key, kind, _ in KEYS if kind is ConfigDict)]


@st.composite
def _flags(draw) -> Damage:
  """A wrong value of a key, or a key that is not there."""
  key, kind, _ = draw(st.sampled_from(KEYS))
  name = kind is str and key not in TEXTS
  value = draw(st.sampled_from(FLAGS[kind] + ("no_such", "") * name))
  if draw(st.integers(0, 4)) == 4:
    key = draw(st.sampled_from(SECTIONS)) + draw(st.from_regex(r"\A[a-z]+7\Z"))
  names = (f"config.{key}", f"has no key {key.rpartition('.')[2]!r}")
  where = draw(st.sampled_from(ANY))
  return Damage(names, *where, flags=(f"--config.{key}={value}",))


@st.composite
def _values(draw) -> Damage:
  """A config file that forces a value in, takes a key out or adds one."""
  key, kind, free = draw(st.sampled_from(KEYS))
  above, _, name = f"c.{key}".rpartition(".")
  value = draw(st.sampled_from(VALUES[kind][: -1 if free else None]))
  ways = (
    f"  del {above}[{name!r}]\n  {above}[{name!r}] = {value}",
    f"  del {above}[{name!r}]",
    f"  {above}['x7'] = {value}",
  )
  code = f"  c.unlock()\n{draw(st.sampled_from(ways))}\n  return c"
  names = (f"config.{key}", "x7")
  where = draw(st.sampled_from(ANY))
  return Damage(names, *where, edits=(("code", "config.py", code),))


def _edit(name: str, *arguments: Any) -> st.SearchStrategy:
  """One edit; arguments in a list or tuple are sampled from it."""
  ways = [
    st.sampled_from(a) if isinstance(a, list | tuple) else a for a in arguments
  ]
  return st.tuples(st.just(name), *ways)


def _file(
  file: str,
  *edits: st.SearchStrategy,
  names: tuple[str, ...],
  where: tuple[tuple[str, str], ...],
  flags: tuple[str, ...] = (),
) -> st.SearchStrategy:
  """One of some edits of one file."""
  return st.builds(
    lambda edit, at: Damage(names, *at, flags, ((edit[0], file, *edit[1:]),)),
    st.one_of(*edits),
    st.sampled_from(where),
  )


WHOLE = (_edit("cut", SHARES), _edit("folder"))
# The end of such a file may hold what nothing reads.
TREE = (_edit("cut", st.floats(0, 0.5)), _edit("folder"), _edit("invert"))
KINDS = {
  "flags": _flags(),
  "config values": _values(),
  "config files": _file(
    "config.py",
    _edit("text", CONFIGS),
    _edit("folder"),
    _edit("remove"),
    names=("config.py",),
    where=ANY,
  ),
  "npz": _file(
    "data.npz",
    *WHOLE,
    _edit("remove"),
    _edit("text", (b"", b"PK", pickle.dumps([1]), b"\x93NUMPY")),
    _edit("member", st.integers(0, 3), SHARES, MASKS),
    _edit("npz", ("train_images", "test_images"), IMAGES),
    _edit("npz", ("train_labels", "test_labels"), LABELS),
    _edit("npz", ("class_names",), CLASSES),
    _edit("header", SHAPES),
    names=("data.npz",),
    where=DATA,
  ),
  "npy": st.one_of(
    *(
      _file(
        f"npy/{stem}.npy",
        *WHOLE,
        _edit("remove"),
        _edit("text", (b"", b"\x93NUMPY", pickle.dumps([1]))),
        # The version, and inside the header's dictionary.
        _edit("flip", st.integers(6, 60), (128,)),
        _edit("shape", SHAPES),
        names=(stem,),
        where=DATA,
        flags=("--config.data.source=npy", "--config.data.folder=@/npy"),
      )
      for split in ("train", "test")
      for stem in (f"{split}_images", f"{split}_labels")
    )
  ),
  "idx": st.one_of(
    *(
      _file(
        f"idx/{stem}-ubyte",
        *WHOLE,
        _edit("remove"),
        _edit("text", (b"", b"\0\0\x08", pickle.dumps([1]))),
        # The magic number and the dimensions.
        _edit("flip", st.integers(0, 4 + 4 * int(stem[-1]) - 1), MASKS),
        names=(stem,),
        where=DATA,
        flags=("--config.data.source=idx", "--config.data.folder=@/idx"),
      )
      for split in ("train", "t10k")
      for stem in (f"{split}-images-idx3", f"{split}-labels-idx1")
    )
  ),
  "config.json": _file(
    "run/config.json",
    *WHOLE,
    _edit("text", JSON),
    _edit("json", RUN),
    _edit("json", RUN, (None, "x", [], {})),
    _edit("json", ("format",), FORMATS),
    _edit("swap", ("summary.json", "teachers/a/config.json")),
    names=("config.json", "summary.json", "holds a run with"),
    where=(*STUDENT, ("run", "run")),
  ),
  "summary.json": _file(
    "run/summary.json",
    *WHOLE,
    _edit("text", JSON),
    _edit("json", SUMMARY),
    _edit("json", SUMMARY, ([], True)),
    _edit("swap", ("config.json",)),
    # Swapped with config.json, both are wrong, and that one is read first.
    names=("summary.json", "config.json has no format"),
    where=(("distill", "run"), ("run", "run")),
  ),
  "manifest.json": _file(
    "run/ensemble/manifest.json",
    *WHOLE,
    _edit("remove"),
    _edit("text", JSON),
    _edit("json", ("format",), FORMATS),
    _edit("json", ("teachers",), ([], {}, 3, None)),
    _edit("swap", ("a-*/_METADATA",)),
    _edit("json", ("x", "teachers.0.x", "teachers.1.x"), (0, "x")),
    _edit("json", [f"teachers.{i}.{key}" for i in (0, 1) for key in ENTRY]),
    *(
      _edit("json", (f"teachers.0.{key}", f"teachers.1.{key}"), values)
      for key, values in ENTRY.items()
    ),
    names=("manifest.json", "teacher 'a'", "teacher 'b'"),
    where=STUDENT,
  ),
  "weights": st.one_of(
    *(
      _file(
        f"run/ensemble/{name}-*{inner}",
        *edits,
        names=("teacher 'a'", "teacher 'b'"),
        where=STUDENT,
      )
      for name, other in (("a", "b-*"), ("b", "a-*"))
      for inner, edits in (
        ("", (_edit("remove"), _edit("swap", (other,)))),
        ("/**/d/*", (*TREE, _edit("remove"))),
      )
    )
  ),
  "checkpoints": st.one_of(
    _file(
      "run/checkpoints/*/state",
      _edit("remove"),
      names=("checkpoints",),
      where=(("evaluate", "run"),),
    ),
    _file(
      "run/checkpoints/*/state/**/d/*",
      *TREE,
      names=("checkpoints",),
      where=(("evaluate", "run"),),
    ),
  ),
}
