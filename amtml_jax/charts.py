"""Charts as SVG for a page that is light or dark: bars, curves, weights.

matplotlib draws them (extra `report`); its ink becomes the page's own.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

MISSING = "Charts need matplotlib: pip install 'amtml-jax[report]'."
# Stands for the page's text and grid colours until the page has them.
INK, GRID = "#010203", "#040506"
# Apart from each other, and from white and from black (Okabe and Ito, 2008).
COLOURS = (
  "#0072b2",
  "#d55e00",
  "#009e73",
  "#b8860b",
  "#cc79a7",
  "#56a0d3",
  "#8a63d2",
  "#808080",
)
DASHES = ("-", "--", ":", "-.")
APART = len(COLOURS) * len(DASHES)  # curves that look unlike
WIDTH = 4.8  # inches: on a phone letters shrink by a quarter, not to a half

Band = tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]


def there() -> bool:
  """Whether matplotlib is installed."""
  try:
    return importlib.util.find_spec("matplotlib") is not None
  except ValueError:  # a test has taken it away
    return False


def in_our_look(draw: Callable[..., Any]) -> Callable[..., Any]:
  """Draws in the page's colours: texts take theirs when they are made."""

  @functools.wraps(draw)
  def drawing(*args: Any) -> Any:
    import matplotlib

    look = {
      "axes.edgecolor": GRID,
      "axes.facecolor": "none",
      "axes.labelcolor": INK,
      "axes.spines.right": False,
      "axes.spines.top": False,
      "font.size": 10,
      "grid.color": GRID,
      "legend.frameon": False,
      "text.color": INK,
      "text.parse_math": False,  # a run may be called $x
      "xtick.color": INK,
      "ytick.color": INK,
    }
    with matplotlib.rc_context(look):
      return draw(*args)

  return drawing


def _new(height: float) -> tuple[Any, Any]:
  """A figure and its axes."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(WIDTH, height), layout="constrained")
  return figure, figure.subplots()


def svg(figure: Any, name: str) -> str:
  """A figure of matplotlib's as an inline <svg>.

  Args:
    figure: drawn.
    name: goes before its ids, which must be the page's only ones.
  """
  import matplotlib

  out = io.StringIO()
  settings = {"svg.fonttype": "none", "svg.hashsalt": name}
  with matplotlib.rc_context(settings), warnings.catch_warnings():
    # A letter that matplotlib's font lacks is the browser's to draw.
    warnings.simplefilter("ignore")
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
  text = out.getvalue()
  text = text[text.index("<svg") :]
  text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
  text = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", text)
  return text.replace(INK, "currentColor").replace(GRID, "var(--grid)")


def _shown(text: str) -> str:
  """A label that leaves room for the chart."""
  return text if len(text) <= 24 else f"{text[:22]}..."


@in_our_look
def bars(
  groups: Mapping[str, Mapping[str, tuple[float, float]]], unit: str
) -> Any:
  """Lying bars: by group and label a mean and its spread."""
  labels = list(dict.fromkeys(n for g in groups.values() for n in g))
  size, high = len(groups), 0.8 / max(len(groups), 1)
  figure, axes = _new(0.9 + 0.3 * len(labels) * (0.5 + 0.5 * size))
  ends = []
  for number, (group, values) in enumerate(groups.items()):
    own = [n for n in labels if n in values]
    at = [labels.index(n) + (number - (size - 1) / 2) * high for n in own]
    mean, spread = np.reshape([values[n] for n in own], (-1, 2)).T
    axes.barh(
      at,
      mean,
      height=high * 0.9,
      xerr=spread if spread.any() else None,
      color=COLOURS[number % len(COLOURS)],
      error_kw={"ecolor": INK, "elinewidth": 1.2, "capsize": 2},
      label=_shown(group),
    )
    ends += [*(mean - spread), *(mean + spread)]
  axes.set_yticks(range(len(labels)), list(map(_shown, labels)))
  axes.invert_yaxis()
  low, top = (min(ends), max(ends)) if ends else (0.0, 1.0)
  # What differs by a point must be seen: the axis does not start at 0.
  room = 0.15 * (top - low) or 0.05 * abs(top) or 1.0
  left = max(low - 2 * room, min(low, 0.0))
  axes.set_xlim(left, top + room)
  cut = f" (the axis begins at {left:.4g})" if left > 0 else ""
  axes.set_xlabel(f"{unit}{cut}")
  axes.grid(axis="x", linewidth=0.6)
  axes.set_axisbelow(True)
  if size > 1:
    figure.legend(loc="outside upper left", ncols=min(size, _columns(groups)))
  return figure


def _columns(names: Iterable[str]) -> int:
  """How many names of a legend fit beside each other, with their lines."""
  longest = max((len(_shown(name)) for name in names), default=0)
  points = 56 + 6.6 * longest  # of a line, and of letters of size 10
  return max(1, min(3, int(72 * WIDTH // points)))


@in_our_look
def curves(lines: Mapping[str, Band], unit: str) -> Any:
  """Means over seeds by epoch, with the band from the least to the most.

  Args:
    lines: by name: epochs, means, least, most.
    unit: of what is drawn.
  """
  columns = _columns(lines)
  figure, axes = _new(3.2 + 0.22 * -(-len(lines) // columns))
  for number, (name, (epoch, mean, low, high)) in enumerate(lines.items()):
    colour = COLOURS[number % len(COLOURS)]
    dash = DASHES[number // len(COLOURS) % len(DASHES)]
    axes.plot(epoch, mean, dash, color=colour, lw=1.6, label=_shown(name))
    axes.fill_between(epoch, low, high, color=colour, alpha=0.1, lw=0)
  axes.set_xlabel("epoch")
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.set_ylabel(unit)
  axes.grid(linewidth=0.6)
  figure.legend(loc="outside upper left", ncols=columns)
  return figure


@in_our_look
def weights(rows: Mapping[str, Mapping[str, float]]) -> Any:
  """The teachers' mean weights, end to end, a bar a run."""
  teachers = list(dict.fromkeys(t for row in rows.values() for t in row))
  figure, axes = _new(1.1 + 0.32 * len(rows))
  names, start = list(rows), np.zeros(len(rows))
  for number, teacher in enumerate(teachers):
    share = np.array([rows[name].get(teacher, 0.0) for name in names])
    axes.barh(
      range(len(names)),
      share,
      left=start,
      height=0.7,
      color=COLOURS[number % len(COLOURS)],
      label=_shown(teacher),
    )
    for y, (x, width) in enumerate(zip(start, share, strict=True)):
      if width >= 0.12:
        axes.text(
          x + width / 2,
          y,
          f"{width:.2f}",
          ha="center",
          va="center",
          color="white",
        )
    start = start + share
  axes.set_yticks(range(len(names)), list(map(_shown, names)))
  axes.invert_yaxis()
  axes.set_xlim(0, 1)
  axes.set_xlabel("mean weight on the test split")
  figure.legend(loc="outside upper left", ncols=_columns(teachers))
  return figure
