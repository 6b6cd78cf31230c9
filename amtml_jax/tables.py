"""Plain tables: what an experiment tabulates, before it has a look."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table as Rich
from rich.text import Text

from amtml_jax.checks import check, shown

Value = str | int | float | None


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows under columns; a row whose first value is a run's name is that run's.

  Attributes:
    title: what it shows.
    columns: their names.
    rows: text, numbers, or None where there is nothing (yet).
    notes: sentences below it.
    bars: beside it, a chart: by group and label a mean and its spread.
    unit: of the bars.
    measured: by this sweep; figures from elsewhere lack none of its cells.
    of: by row the runs that it is made of, where its first value is not the
      name of the one.
  """

  title: str
  columns: Sequence[str]
  rows: Sequence[Sequence[Value]]
  notes: Sequence[str] = ()
  bars: Mapping[str, Mapping[str, tuple[float, float]]] = dataclasses.field(
    default_factory=dict
  )
  unit: str = ""
  measured: bool = True
  of: Sequence[Sequence[str]] = ()

  def wrong(self) -> str | None:
    """What is wrong with it, if anything."""
    if self.of and len(self.of) != len(self.rows):
      return f"`of` has {len(self.of)} rows, and the table {len(self.rows)}"
    for row in self.rows:
      if not isinstance(row, list | tuple) or len(row) != len(self.columns):
        return f"the row {shown(row)} has not {len(self.columns)} columns"
      for value in row:
        if not isinstance(value, str | int | float | None):
          return f"{shown(value)} is neither text nor a number"
    return None

  def numeric(self) -> list[bool]:
    """Which columns hold numbers: they stand at the right."""
    columns = list(zip(*self.rows, strict=True)) or [()] * len(self.columns)
    return [all(v is None or _number(v) for v in column) for column in columns]

  def texts(self) -> list[list[str]]:
    """The rows as a person reads them."""
    return [[text(value) for value in row] for row in self.rows]


def _number(value: Value) -> bool:
  """Whether it is one, or reads as one: `+0.12`, `97.2 ± 0.1`, `3.9x`."""
  if not isinstance(value, str):
    return True
  return value.lstrip("+-±<≤ ")[:1].isdigit()


def text(value: Value) -> str:
  """A value as it stands in a table."""
  if value is None:
    return "–"  # noqa: RUF001  (the sign for nothing)
  if isinstance(value, bool | str):
    return str(value)
  return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def checked(tables: Any, where: str) -> list[Table]:
  """What `tabulate` gave, if those are tables.

  Raises:
    UserError: what is wrong with them.
  """
  check(
    isinstance(tables, list | tuple)
    and all(isinstance(t, Table) for t in tables),
    f"{where}: tabulate gives {shown(tables)}, not a list of "
    "amtml_jax.tables.Table",
  )
  for table in tables:
    wrong = table.wrong()
    check(wrong is None, f"{where}: table {shown(table.title)}: {wrong}")
  return list(tables)


def markdown(table: Table) -> str:
  """The table in Markdown; what it says is no markup."""
  lines = [
    f"### {inline(table.title)}",
    "",
    _line(table.columns),
    "|" + "---|" * len(table.columns),
    *map(_line, table.texts()),
  ]
  notes = [part for note in table.notes for part in ("", inline(note))]
  return "\n".join([*lines, *notes]) + "\n"


def _line(values: Sequence[str]) -> str:
  return "| " + " | ".join(map(inline, values)) + " |"


def inline(value: str) -> str:
  """Text as it stands in a line of Markdown: no markup, no HTML."""
  escaped = html.escape(" ".join(str(value).split()), quote=False)
  for sign in "\\|`*_[]":
    escaped = escaped.replace(sign, f"\\{sign}")
  return escaped


def rich(table: Table) -> Rich:
  """The table for a terminal."""
  out = Rich(
    title=Text(table.title),
    caption=Text("\n".join(table.notes)),
    caption_justify="left",
  )
  for column, right in zip(table.columns, table.numeric(), strict=True):
    out.add_column(Text(column), justify="right" if right else "left")
  for row in table.texts():
    out.add_row(*map(Text, row))
  return out
