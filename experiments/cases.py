"""What is kept of single images: arrays in, plain numbers out, and a figure."""

from typing import Any

import numpy as np
from scipy.special import softmax

from amtml_jax import charts
from amtml_jax.listening import Heard
from amtml_jax.types import Dataset

SHOWN = 5  # images


def figures(heard: Heard, classes: tuple[str, ...]) -> dict[str, Any]:
  """How the weights go with what is right, and their means by class."""
  weights = np.exp(np.float64(heard.log_weights))
  right = (heard.teachers.argmax(-1) == heard.label).T  # (N, m)
  # Elsewhere all are right, or all wrong: no weighting hears the right one.
  unlike = right.any(1) & ~right.all(1)
  on_right = (weights * right).sum(1)[unlike]
  return {
    "correlation": correlation(weights, right),
    "contested": int(unlike.sum()),
    "weight_on_right": float(on_right.mean()) if unlike.any() else None,
    "even_on_right": float(right[unlike].mean()) if unlike.any() else None,
    "by_class": [
      {
        "class": name,
        "images": int((heard.label == c).sum()),
        "weights": weights[heard.label == c].mean(0).tolist(),
      }
      for c, name in enumerate(classes)
      if (heard.label == c).any()
    ],
  }


def correlation(weights: np.ndarray, right: np.ndarray) -> float | None:
  """Point-biserial, of `(N, m)` weights with being right, over all pairs.

  Pearson's with a number that is 0 or 1. None where either never changes.
  """
  if right.all() or not right.any() or np.ptp(weights) < 1e-9:
    return None
  return float(np.corrcoef(weights.ravel(), right.ravel())[0, 1])


def pictures(
  heard: Heard, test: Dataset, names: tuple[str, ...], temperature: float
) -> list[dict[str, Any]]:
  """The images of the widest range of weights, one a class at most."""
  weights = np.exp(heard.log_weights)
  soft = softmax(heard.teachers / temperature, axis=-1)
  chosen: dict[int, int] = {}
  for row in np.argsort(-np.ptp(weights, axis=1), kind="stable").tolist():
    chosen.setdefault(int(heard.label[row]), row)
  rows = list(chosen.values())[:SHOWN]
  made = []
  for row, image in zip(rows, test.image[np.asarray(rows)], strict=True):
    teachers = [
      {
        "name": name,
        "weight": round(float(weights[row, t]), 4),
        "soft_target": soft[t, row].round(4).tolist(),
      }
      for t, name in enumerate(names)
    ]
    made.append(
      {
        "row": row,
        "label": int(heard.label[row]),
        "class": test.classes[heard.label[row]],
        "shape": list(image.shape),
        # A line of pixels each, two hexadecimal digits a value.
        "pixels": [line.tobytes().hex() for line in np.asarray(image)],
        "teachers": teachers,
      }
    )
  return made


@charts.in_our_look
def drawn(images: list[dict[str, Any]]) -> Any:
  """A line an image: itself, and by teacher its soft target in bars."""
  from matplotlib.figure import Figure

  columns = 1 + len(images[0]["teachers"])
  figure = Figure(
    figsize=(charts.WIDTH, 1.3 * len(images)), layout="constrained"
  )
  grid = figure.subplots(len(images), columns, squeeze=False)
  for line, image in zip(grid, images, strict=True):
    pixels = np.frombuffer(bytes.fromhex("".join(image["pixels"])), np.uint8)
    pixels = pixels.reshape(image["shape"])
    grey = pixels.shape[-1] == 1
    line[0].imshow(
      pixels[..., 0] if grey else pixels,
      cmap="gray" if grey else None,
      interpolation="none",  # the browser shows its pixels as they are
    )
    line[0].set_axis_off()
    line[0].set_title(image["class"], fontsize=10)
    for axes, teacher in zip(line[1:], image["teachers"], strict=True):
      target = teacher["soft_target"]
      colours = [charts.COLOURS[0]] * len(target)
      colours[image["label"]] = charts.COLOURS[1]
      axes.bar(range(len(target)), target, color=colours)
      axes.set_ylim(0, 1)
      axes.set_xticks([])
      axes.set_yticks([0, 1], ["0", "1"], fontsize=8)
      axes.set_title(f"{teacher['name']}\n{teacher['weight']:.2f}", fontsize=10)
  return figure
