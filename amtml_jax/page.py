"""One HTML page that needs nothing beside it: tables and figures.

It reads on a phone and on a desktop, by day and by night. Everything that a
run, a config or a file says is text: `html.escape` is where it enters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape

from amtml_jax.tables import Table

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a;
  --paper: #ffffff; --band: #f3f5f7; --grid: #c9d1d9; --mark: #9a4a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa5b1;
  --paper: #12161b; --band: #1b2128; --grid: #3d4650; --mark: #f0a35e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.25rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem;
  overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; overflow-wrap: anywhere; }
p, li { max-width: 44rem; overflow-wrap: anywhere; margin: .25rem 0; }
.soft, figcaption { color: var(--soft); font-size: .875rem; }
.status { border-left: 3px solid var(--mark); padding-left: .75rem; }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0;
  font-variant-numeric: tabular-nums; font-size: .9375rem; }
th, td { padding: .375rem .75rem; line-height: 1.5rem; text-align: left;
  white-space: nowrap; border-bottom: 1px solid var(--grid); }
th { font-weight: 600; vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { position: sticky; left: 0;
  background: var(--paper); padding-left: 0; white-space: normal;
  min-width: 7rem; max-width: 16rem; overflow-wrap: break-word; }
.n { text-align: right; }
.figures { display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; min-width: 0; }
figcaption { margin-bottom: .25rem; overflow-wrap: anywhere; }
svg { width: 100%; max-width: 36rem; height: auto; display: block;
  font-family: system-ui, sans-serif; }
svg text { font-family: inherit !important; }
details { margin-top: 2rem; }
summary { cursor: pointer; }
@media (max-width: 30rem) { body { padding: .9rem; }
  th:first-child, td:first-child { max-width: 9rem; } }
@media print { .scroll { overflow: visible; } }
"""


def _table(table: Table) -> str:
  texts, right = table.texts(), table.numeric()

  def line(tag: str, values: Sequence[str]) -> str:
    cells = (
      f"<{tag}{' class=n' if r else ''}>{escape(str(value))}</{tag}>"
      for value, r in zip(values, right, strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"

  body = "\n".join(line("td", row) for row in texts)
  # A box that scrolls is reached by keyboard, and so has a name.
  return (
    f'<div class="scroll" tabindex="0" role="region" '
    f'aria-label="{escape(table.title)}"><table>\n'
    f"<thead>{line('th', table.columns)}</thead>\n<tbody>\n{body}\n</tbody>"
    "</table></div>"
    + "".join(f'\n<p class="soft">{escape(note)}</p>' for note in table.notes)
  )


def _section(table: Table) -> str:
  return (
    f"<section>\n<h2>{escape(table.title)}</h2>\n{_table(table)}\n</section>"
  )


def page(
  title: str,
  notes: Sequence[str],
  shown: Sequence[Table],
  figures: Mapping[str, str],
  cells: Table,
) -> str:
  """The page.

  Args:
    title: of the experiment.
    notes: sentences on what is there.
    shown: its tables.
    figures: by caption, an <svg> that is trusted as it is.
    cells: one line a cell.
  """
  drawn = "\n".join(
    f'<figure role="img" aria-label="{escape(caption)}">'
    f"<figcaption>{escape(caption)}</figcaption>\n{_plain(svg)}</figure>"
    for caption, svg in figures.items()
  )
  parts = [
    f"<h1>{escape(title)}</h1>",
    '<div class="status">',
    *(f"<p>{escape(note)}</p>" for note in notes),
    "</div>",
    *map(_section, shown),
    f'<section>\n<h2>Figures</h2>\n<div class="figures">\n{drawn}\n</div>'
    "\n</section>"
    if figures
    else "",
    f"<details><summary>{escape(cells.title)}</summary>\n{_table(cells)}\n"
    "</details>",
  ]
  body = "\n".join(filter(None, parts))
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
    f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
  )


def _plain(svg: str) -> str:
  """The page says how large it is."""
  return re.sub(r'^(<svg[^>]*?) width="[^"]*"| height="[^"]*pt"', r"\1", svg)
