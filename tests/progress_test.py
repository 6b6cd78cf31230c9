"""One live line on a terminal, plain lines elsewhere."""

import io

from rich.console import Console

from amtml_jax import progress


def test_plain_lines_say_phase_step_pace_loss_and_time_left(monkeypatch):
  clock = iter([0.0, 100.0, 100.0, 140.0, 140.0, 150.0])
  monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
  out = io.StringIO()
  view = progress.View(Console(file=out, width=200, highlight=False))
  with view.phase("resnet8", steps=50, done=0) as line:
    line.say("compiled")  # at 100 s
    line.advance(2, 64, "epoch 1/5", "x")  # at 100 s: the clock starts here
    line.advance(10, 64, "epoch 1/5", "loss 1.5")  # 8 steps in 40 s
  lines = out.getvalue().splitlines()
  assert lines[0] == "resnet8  compiled"
  assert lines[1] == (
    "resnet8  step 10/50  epoch 1/5  13 images/s  loss 1.5  200 s left"
  )
  assert len(lines) == 2


def test_a_terminal_shows_one_live_line():
  out = io.StringIO()
  console = Console(file=out, width=120, force_terminal=True, color_system=None)
  with progress.View(console).phase("cnn", steps=50, done=0) as line:
    line.advance(10, 64, "epoch 1/5", "loss 1.5")
  shown = out.getvalue()
  assert "cnn" in shown
  assert "10/50" in shown
  assert "epoch 1/5" in shown
  assert "loss 1.5" in shown


def test_names_are_not_markup():
  out = io.StringIO()
  progress.View(Console(file=out)).say("[red]teacher[/red]")
  assert out.getvalue() == "[red]teacher[/red]\n"
