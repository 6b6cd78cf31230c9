"""The tables of the committed results: the README's, and all beside the JSON.

    python experiments/result_tables.py

In README.md what stands between `<!-- table: FOLDER: TITLE -->` and
`<!-- end -->` is replaced by that table of experiments/results/FOLDER, as far
as its cells are there; experiments/results/README.md holds every table of every
folder, with its notes and what it lacks.
"""

import dataclasses
import functools
import pathlib
import re
from collections import Counter

from amtml_jax import (
  continued,
  experiment,
  files,
  loading,
  provenance,
  results,
  tables,
)

ROOT = pathlib.Path(__file__).parent.parent
FOLDERS = ROOT / "experiments" / "results"
ALL = FOLDERS / "README.md"
README = ROOT / "README.md"
_PLACE = re.compile(
  r"(<!-- table: ([^:\n]+): ([^\n]+) -->\n).*?(<!-- end -->)", re.DOTALL
)


@functools.cache
def made(folder: str) -> tuple[list[tables.Table], list[str], str]:
  """A folder's tables, sentences on what is there, and its experiment."""
  there = results.read(FOLDERS / folder)
  argument = there.header["experiment"]
  of = experiment.load(argument)
  # Whatever the code is today: the text is not to change with every commit.
  there = dataclasses.replace(there.of(of), here=False)
  own = loading.called(of.module.tabulate, of.path, of.flag, there.by_run())
  lacks = there.named_missing()
  lacks += [run for run, _ in of.runs if run not in there.runs]
  codes = Counter(map(provenance.told, there.done))
  code = ", ".join(f"{code} ({count} cells)" for code, count in codes.items())
  notes = there.mixed() or [f"By {code}."]
  notes += [f"Missing: {', '.join(lacks)}."] if lacks else []
  today = {c.run: c.settings.to_dict() for c in of.cells(of.base, (0,))}
  for result in there.done:
    run, was = result["run"], result["config"]
    change = continued.changed(was, today[run], but=("seed",))
    if change and (note := f"{run} has {change} as today.") not in notes:
      notes.append(note)
  checked = [
    dataclasses.replace(there.marked(table), notes=table.notes)
    for table in tables.checked(own, of.flag)
  ]
  return checked, [*notes, *there.damaged], argument


def filled(text: str) -> str:
  """The text with today's tables in their places.

  Raises:
    KeyError: there is no table of a title.
  """

  def place(found: re.Match) -> str:
    start, folder, title, end = found.groups()
    table = {t.title: t for t in made(folder)[0]}[title]
    # Without its title and notes, which the text around it has.
    rows = [r for r in table.rows if any(v is not None for v in r[1:])]
    bare = dataclasses.replace(table, rows=rows, notes=())
    lines = tables.markdown(bare).splitlines()[2:]
    return "\n".join([start, *lines, "", end])

  return _PLACE.sub(place, text)


def every() -> str:
  """All tables of all folders."""
  lines = [
    "# Results",
    "",
    "Made by `python experiments/result_tables.py` from the JSON files here;",
    "the command of each stands in its experiment's docstring.",
    "",
  ]
  for folder in sorted(p.parent.name for p in FOLDERS.glob("*/sweep.json")):
    own, notes, argument = made(folder)
    lines += [f"## {folder}", "", f"`--experiment={argument}`", ""]
    lines += [line for note in notes for line in (tables.inline(note), "")]
    lines += map(tables.markdown, own)
  return "\n".join(lines)


def main() -> None:
  """Writes both files."""
  files.write(README, filled(README.read_text(encoding="utf-8")))
  files.write(ALL, every())
  print(f"written: {README} and {ALL}")


if __name__ == "__main__":
  main()
